"""Move jobs between the tree of the archive and its packs."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ccapi.archive import files, layout, meta_json, pack, reader, writer
from ccapi.archive.os_errors import as_archive_error
from ccapi.context import Context
from ccapi.errors import ArchiveError
from ccapi.model.job import JobKey
from ccapi.repository import jobs

KINDS = ("packed", "unpacked", "kept", "bad")
# Edits of these jobs wait meanwhile, for about a second.
_BATCH_SIZE = 500
_WRITERS = 8


class Move(NamedTuple):
    """What became of a job; `kind` is in KINDS, and a bad file stays as it is."""

    kind: str
    path: Path
    reason: str = ""


def pack_months(context: Context, before: int, cluster: str | None = None) -> Iterator[Move]:
    """Move the jobs of each month that ended before a time into packs; yield each move.

    A job is read back from its pack before its file goes. Runs with other files, such as measured
    data, stay. After an interruption at any moment no job is lost, and the next run continues.
    Raises ArchiveError.
    """
    root, last_month = context.archive_root, layout.month_of(max(before, 0))
    with _exclusive(root):
        runs = (
            (directory, key)
            for directory, key in reader.tree_runs(root)
            if key is not None
            and cluster in {None, key.cluster}
            and (layout.month_of(key.start_time) or "~") < (last_month or "~")
        )
        while batch := list(islice(runs, _BATCH_SIZE)):
            with context.database.transaction() as conn:
                pending = jobs.lock_by_keys(conn, [key for _, key in batch])
                moves = list(_pack(context, [run for run in batch if run[1] not in pending]))
            yield from moves


def unpack(
    context: Context, cluster: str | None = None, month: str | None = None
) -> Iterator[Move]:
    """Move the jobs of packs back into the tree, and remove empty packs; yield each move.

    A file that is in the tree already is newer. Raises ArchiveError.
    """
    root = context.archive_root
    with _exclusive(root), ThreadPoolExecutor(_WRITERS) as pool:
        for path in reader.pack_paths(root):
            if cluster not in {None, path.parent.name} or month not in {None, path.stem}:
                continue
            keys = pack.keys(path)
            while batch := list(islice(keys, _BATCH_SIZE)):
                with context.database.transaction() as conn:
                    pending = jobs.lock_by_keys(conn, batch)
                    moved = [key for key in batch if key not in pending]
                    list(pool.map(lambda key: _write(root, key), moved))
                    pack.remove(path, moved)
                yield from (Move("unpacked", layout.meta_path(root, key)) for key in moved)
            pack.remove(path, ())


@contextmanager
def _exclusive(root: Path) -> Iterator[None]:
    """Keep other processes from moving jobs, and remove what a killed one has left."""
    with writer.exclusive(root):
        for directory in reader.cluster_directories(root):
            pack.remove_unfinished(directory)
        yield


def _pack(context: Context, runs: Sequence[tuple[Path, JobKey]]) -> Iterator[Move]:
    """Move runs into their packs."""
    root = context.archive_root
    documents: dict[Path, dict[JobKey, bytes]] = defaultdict(dict)
    for directory, key in runs:
        path = layout.pack_path(root, key)
        content = _read(root, directory, key)
        if isinstance(content, bytes) and path is not None:
            documents[path][key] = content
        elif isinstance(content, Move):
            yield content
    for path, moved in documents.items():
        cluster_file = path.with_name(layout.CLUSTER_FILE)
        config = files.read(cluster_file) if cluster_file.is_file() else None
        pack.write(path, moved, version=context.archive_version, cluster_file=config)
        if any(pack.read(path, key) != data for key, data in moved.items()):
            raise ArchiveError(f"{path} does not return what was written to it")
        for key, data in moved.items():
            # An import may have written another file meanwhile.
            if files.read(layout.meta_path(root, key)) == data:
                writer.remove_run(root, key)
            yield Move("packed", path)


def _read(root: Path, directory: Path, key: JobKey) -> bytes | Move | None:
    """Return the meta.json of a run that can be packed, or what is in the way; None if it is."""
    try:
        with as_archive_error("read", directory):
            names = set()
            for path in directory.iterdir():
                if layout.is_temporary(path.name):
                    # A killed writer left it; one that is alive writes another.
                    path.unlink(missing_ok=True)
                else:
                    names.add(path.name)
            if names == {layout.META_FILE}:
                data = files.read(directory / layout.META_FILE)
                if meta_json.decode(data).key != key:
                    raise ArchiveError("belongs to another job")
                return data
        if not names and reader.exists(root, key):  # its move was interrupted
            writer.remove_run(root, key)
            return None
        return Move("kept", directory)
    except ArchiveError as error:
        return Move("bad", directory, str(error))


def _write(root: Path, key: JobKey) -> None:
    """Write a packed job to the tree, unless it is there."""
    if reader.is_in_tree(root, key):
        return
    writer.write_bytes(root, key, reader.read_bytes(root, key))
