"""Read the archive: the inverse of the writer."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from ccapi.archive import cluster_json, files, layout, meta_json, pack
from ccapi.archive.os_errors import as_archive_error
from ccapi.errors import ArchiveError
from ccapi.model.job import Job, JobKey
from ccapi.model.rules import is_name

# A stop reads its cluster's cluster.json only if that has changed: path -> (state, names).
_sub_clusters: dict[Path, tuple[tuple[int, ...], tuple[str, ...]]] = {}
_MAX_CLUSTERS = 1024


class MissingMetaJson(ArchiveError):
    """The archive has no meta.json for the job."""


def read(root: Path, key: JobKey, bad_metrics: list[str] | None = None) -> Job:
    """Read an archived job; raises MissingMetaJson, and ArchiveError for a broken file.

    With a list for their names, metrics that the API would refuse are left out.
    """
    job = meta_json.decode(read_bytes(root, key), bad_metrics)
    if job.key != key:
        raise ArchiveError("belongs to another job")
    return job


def read_bytes(root: Path, key: JobKey) -> bytes:
    """Return the content of a job's meta.json, from the tree or a pack.

    Raises MissingMetaJson and ArchiveError.
    """
    path, pack_path = layout.meta_path(root, key), layout.pack_path(root, key)
    data = _read_file(path)
    if data is None and pack_path is not None and pack_path.exists():
        data = pack.read(pack_path, key)
    # It may have moved from the pack to the tree meanwhile.
    if data is None:
        data = _read_file(path)
    if data is None:
        raise MissingMetaJson(f"{path} does not exist")
    return data


def read_batch(root: Path, keys: Iterable[JobKey]) -> dict[JobKey, bytes]:
    """Return the content of those meta.json that can be read, from the tree or packs."""
    documents: dict[JobKey, bytes] = {}
    packed: dict[tuple[str, str | None], list[JobKey]] = {}
    for key in keys:
        with suppress(ArchiveError):
            data = _read_file(layout.meta_path(root, key))
            if data is not None:
                documents[key] = data
            else:
                month = key.cluster, layout.month_of(key.start_time)
                packed.setdefault(month, []).append(key)
    for keys_of_pack in packed.values():
        path = layout.pack_path(root, keys_of_pack[0])
        with suppress(ArchiveError):
            documents |= pack.read_batch(path, keys_of_pack) if path else {}
    return documents


def _read_file(path: Path) -> bytes | None:
    with as_archive_error("read", path):
        try:
            return files.read(path)
        except FileNotFoundError:
            return None


def exists(root: Path, key: JobKey) -> bool:
    """Return whether the archive has a job's meta.json, in the tree or a pack.

    Raises ArchiveError.
    """
    directory, pack_path = layout.meta_path(root, key).parent, layout.pack_path(root, key)
    if _has_meta_json(directory):
        return True
    is_packed = pack_path is not None and pack_path.exists() and pack.exists(pack_path, key)
    return is_packed or _has_meta_json(directory)


def is_in_tree(root: Path, key: JobKey) -> bool:
    """Return whether a job's meta.json is in the tree; raises ArchiveError."""
    return _has_meta_json(layout.meta_path(root, key).parent)


def sub_clusters(root: Path, cluster: str) -> tuple[str, ...] | None:
    """Return the names of sub-clusters in a cluster's cluster.json; None if there is no file.

    A broken file has none. Raises ArchiveError.
    """
    path = root / cluster / layout.CLUSTER_FILE
    with as_archive_error("read", path):
        try:
            status = path.stat()
            state = (status.st_mtime_ns, status.st_size, status.st_ino)
            known_state, names = _sub_clusters.get(path, (None, ()))
            if state != known_state:
                names = cluster_json.sub_cluster_names(path.read_bytes() if path.is_file() else b"")
                if len(_sub_clusters) >= _MAX_CLUSTERS:
                    _sub_clusters.clear()
                _sub_clusters[path] = (state, names)
        except (FileNotFoundError, NotADirectoryError):
            return None
    return names


def keys(root: Path) -> Iterator[JobKey]:
    """Return the keys of all archived jobs, each once, in constant memory."""
    yield from tree_keys(root)
    for key in packed_keys(root):
        if not is_in_tree(root, key):
            yield key


def pack_paths(root: Path) -> Iterator[Path]:
    """Return the paths of all packs in order."""
    for directory in cluster_directories(root):
        yield from sorted(directory.glob(layout.PACK_PATTERN))


def packed_keys(root: Path) -> Iterator[JobKey]:
    """Return the keys of packed jobs; one that changed since then is in the tree, too.

    A pack that cannot be read has none: `archive check` reports it.
    """
    for path in pack_paths(root):
        place = path.parent.name, path.stem
        with suppress(ArchiveError):
            yield from (
                key
                for key in pack.keys(path)
                if (key.cluster, layout.month_of(key.start_time)) == place
            )


def runs(root: Path) -> Iterator[tuple[Path, JobKey | None]]:
    """Return all runs with their directories, also without meta.json, and None as key of others.

    The directory of a packed run does not exist.
    """
    yield from tree_runs(root)
    for key in packed_keys(root):
        if not is_in_tree(root, key):
            yield layout.meta_path(root, key).parent, key


def tree_keys(root: Path) -> Iterator[JobKey]:
    """Return the keys of the tree's archived jobs."""
    for directory, key in tree_runs(root):
        if key is not None and _has_meta_json(directory):
            yield key


def tree_runs(root: Path) -> Iterator[tuple[Path, JobKey | None]]:
    """Return the runs of the tree, without those that are only in packs."""
    for directory in _run_directories(root):
        yield directory, layout.parse(directory.parts[-len(layout.LEVELS) :])


def incomplete_directories(root: Path) -> Iterator[Path]:
    """Return the directories of runs without meta.json; other readers fail on them."""
    return filter(is_incomplete, _run_directories(root))


def is_incomplete(directory: Path) -> bool:
    """Return whether a run's directory exists and has no meta.json."""
    with as_archive_error("read", directory):
        return directory.is_dir() and not _has_meta_json(directory)


def temporary_files(root: Path) -> Iterator[Path]:
    """Return the files that writers have not completed, or never will because they were killed."""
    for directory in _run_directories(root):
        names = _list_names(directory, lambda entry: layout.is_temporary(entry.name))
        yield from (directory / name for name in names)


def _has_meta_json(directory: Path) -> bool:
    with as_archive_error("read", directory):
        return (directory / layout.META_FILE).is_file()


def _run_directories(root: Path) -> Iterator[Path]:
    """Walk down to the runs."""
    level = cluster_directories(root)
    for _ in layout.LEVELS[1:]:
        level = _subdirectories(level)
    return level


def cluster_directories(root: Path) -> Iterator[Path]:
    """Return the directories of clusters, without those such as lost+found that we cannot read."""
    for directory in _subdirectories(iter((root,))):
        if is_name(directory.name) or os.access(directory, os.R_OK | os.X_OK, effective_ids=True):
            yield directory


def _subdirectories(directories: Iterator[Path]) -> Iterator[Path]:
    """Return the subdirectories of each directory; numbers are in numeric order."""
    for directory in directories:
        names = _list_names(directory, lambda entry: entry.is_dir(follow_symlinks=False))
        for name in sorted(names, key=lambda name: (len(name), name)):
            yield directory / name


def _list_names(directory: Path, matches: Callable[[os.DirEntry[str]], bool]) -> list[str]:
    """List the names of matching entries; none if the directory was removed meanwhile."""
    with (
        as_archive_error("read", directory),
        suppress(FileNotFoundError),
        os.scandir(directory) as entries,
    ):
        return [entry.name for entry in entries if matches(entry)]
    return []
