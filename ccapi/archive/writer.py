"""Write the archive: readers see the old file or the new one, never a part of it."""

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ccapi import atomic_file
from ccapi.archive import cluster_json, files, layout, meta_json, reader
from ccapi.archive.os_errors import as_archive_error
from ccapi.errors import ArchiveError, StartupError
from ccapi.model.cluster import Cluster, Clusters
from ccapi.model.job import Job, JobKey
from ccapi.model.rules import is_name

_DIRECTORY_MODE = 0o750
_FILE_MODE = 0o640
_MAX_ATTEMPTS = 3
_MAX_VERSION_BYTES = 64
# Writers of other runs rely on existing directories of cluster and group, so these are synced
# as soon as they are created.
_SHARED_LEVELS = 2
_OPEN_ROOT = os.O_RDONLY | os.O_DIRECTORY
_OPEN_DIRECTORY = _OPEN_ROOT | os.O_NOFOLLOW
_NO_CLUSTERS = Clusters()
# Does not wait for the other end of a pipe.
_OPEN_DATA = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_CREATE_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


def create_if_missing(
    root: Path, version: int = layout.DEFAULT_VERSION, clusters: Clusters = _NO_CLUSTERS
) -> None:
    """Create the archive's root and version.txt and, in version 3, each cluster.json.

    A cluster.json that exists is only replaced if ccapi wrote it, and the settings have changed.
    Raises StartupError if the archive has the other version, and ArchiveError if it cannot be
    written.
    """
    version_file = root / layout.VERSION_FILE
    with as_archive_error("write", version_file):
        with as_archive_error("create", root):
            root.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        if not version_file.exists():
            with _open_fd(root, _OPEN_ROOT) as directory:
                _write_file(directory, layout.VERSION_FILE, f"{version}\n".encode())
    with _open_root(root) as (directory, actual):
        if actual != version:
            raise StartupError(
                f"the archive {root} has version {actual}, and [archive] version is {version}: "
                "run `ccapi archive convert`, or change the setting"
            )
        if version > 1:
            _describe_clusters(root, directory, clusters)


def read_version(root: Path) -> int:
    """Return the version of an archive; raises ArchiveError."""
    with _open_root(root) as (_, version):
        return version


def set_version(root: Path, version: int) -> None:
    """Replace the version of an archive, whose files are of the new one already."""
    with _open_root(root) as (directory, _), as_archive_error("write", root):
        _write_file(directory, layout.VERSION_FILE, f"{version}\n".encode())


def describe_clusters(root: Path, clusters: Clusters) -> None:
    """Write each cluster.json that version 3 needs; replace only our own. Raises ArchiveError."""
    with _open_root(root) as (directory, _):
        _describe_clusters(root, directory, clusters)


def remove_generated_cluster_files(root: Path) -> None:
    """Remove each cluster.json that ccapi wrote, and the directories that had nothing else."""
    for path in root.glob(f"*/{layout.CLUSTER_FILE}"):
        with as_archive_error("remove", path):
            if path.is_file() and cluster_json.is_generated(path.read_bytes()):
                path.unlink()
                with suppress(OSError):
                    path.parent.rmdir()


def _describe_clusters(root: Path, directory: int, clusters: Clusters) -> None:
    """Write the missing cluster.json of each cluster of the settings, and of each directory."""
    described = {cluster.name: cluster for cluster in clusters.described}
    with as_archive_error("read", root), os.scandir(root) as entries:
        others = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    for name in {*described, *filter(is_name, others)}:
        _describe_cluster(root, directory, name, described.get(name))
    for cluster in clusters.described:
        _update_cluster(root, directory, cluster)


def _describe_cluster(
    root: Path, directory: int, name: str, cluster: Cluster | None = None
) -> tuple[str, ...]:
    """Write a cluster's cluster.json, if it is missing; return the names of its sub-clusters."""
    names = reader.sub_clusters(root, name)
    if names is None:
        with as_archive_error("write", root / name / layout.CLUSTER_FILE):
            with suppress(FileExistsError):
                os.mkdir(name, _DIRECTORY_MODE, dir_fd=directory)
                os.fsync(directory)
            with _open_fd(name, _OPEN_DIRECTORY, directory) as cluster_directory:
                content = cluster_json.build(name, cluster)
                _write_file(cluster_directory, layout.CLUSTER_FILE, content, replace=False)
        names = reader.sub_clusters(root, name)
    return names or ()


def _update_cluster(root: Path, directory: int, cluster: Cluster) -> None:
    """Replace a cluster's cluster.json if ccapi wrote it, and the settings have changed."""
    with (
        suppress(files.NotRegularFile),
        as_archive_error("write", root / cluster.name / layout.CLUSTER_FILE),
        _open_fd(cluster.name, _OPEN_DIRECTORY, directory) as cluster_directory,
    ):
        content = files.read(layout.CLUSTER_FILE, cluster_directory)
        updated = cluster_json.update(content, cluster)
        if updated != content:
            _write_file(cluster_directory, layout.CLUSTER_FILE, updated)


def require_mounted(root: Path, version: int = layout.DEFAULT_VERSION) -> None:
    """Refuse a root without version.txt, where `create_if_missing` would start a new archive."""
    with as_archive_error("write", root):
        if root.exists() and not (root / layout.VERSION_FILE).exists():
            raise ArchiveError(
                f"{root} has no {layout.VERSION_FILE}: is the archive mounted? "
                f"To start a new archive there, write {version} to that file"
            )


def require_writable(root: Path) -> None:
    """Write a byte below the root durably, to a file that is already deleted."""
    with _open_root(root) as (directory, _), as_archive_error("write", root):
        name = f".writable.{os.getpid()}.{secrets.token_hex(4)}"
        with _open_fd(name, _CREATE_FILE, directory) as file:
            os.unlink(name, dir_fd=directory)
            os.write(file, b"1")
            os.fsync(file)


def write(root: Path, job: Job) -> None:
    """Write a finished job's meta.json durably; raises ArchiveError."""
    _write_job(root, job, with_backup=False)


def write_with_backup(root: Path, job: Job) -> str | None:
    """Write a finished job's meta.json; keep a file with a different content beside it.

    Returns the backup's name, None if there is none. It depends on the content, so the same
    content is backed up once; readers ignore it. Raises ArchiveError.
    """
    return _write_job(root, job, with_backup=True)


def _write_job(root: Path, job: Job, *, with_backup: bool) -> str | None:
    """Write a job's meta.json in the archive's version."""
    parts = layout.parts(job.key)
    with _open_root(root) as (directory, version):
        known = _describe_cluster(root, directory, job.cluster) if version > 1 else None
        return _write_run(
            root, directory, parts, meta_json.encode(job, known), with_backup=with_backup
        )


def write_bytes(root: Path, key: JobKey, data: bytes) -> None:
    """Write a run's meta.json durably.

    Raises ArchiveError. Then nothing has changed, unless the last step failed, which makes the
    new names durable: the new content may be there already.
    """
    parts = layout.parts(key)
    with _open_root(root) as (directory, _):
        _write_run(root, directory, parts, data, with_backup=False)


@contextmanager
def exclusive(root: Path, *, is_import: bool = False) -> Iterator[None]:
    """Keep other processes from moving files between tree and packs; raises ArchiveError.

    Several imports may run at once.
    """
    version_file = root / layout.VERSION_FILE
    with as_archive_error("lock", version_file), _open_fd(version_file, os.O_RDWR) as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if is_import else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArchiveError(
                "another process packs, unpacks or imports the archive; wait for it"
            ) from None
        yield


def remove_run(root: Path, key: JobKey) -> None:
    """Remove a run's meta.json, and the directories that have nothing else; raises ArchiveError."""
    path = layout.meta_path(root, key)
    with as_archive_error("remove", path):
        path.unlink(missing_ok=True)
    with suppress(OSError):
        for directory in path.parents[: len(layout.LEVELS) - 1]:
            directory.rmdir()


def copy_data(root: Path, key: JobKey, source: Path) -> None:
    """Copy measured data from a run's directory in another archive; keep what is there already.

    The run has its meta.json in this archive. Raises ArchiveError.
    """
    directory = root.joinpath(*layout.parts(key))
    for name in layout.DATA_FILES:
        with as_archive_error("copy", source / name):
            try:
                file = os.open(source / name, _OPEN_DATA)
            except FileNotFoundError:
                continue
            with os.fdopen(file, "rb") as content:
                if stat.S_ISREG(os.fstat(file).st_mode) and not (directory / name).exists():
                    with _open_fd(directory, _OPEN_DIRECTORY) as run:
                        _write_file(run, name, content, replace=False)


def _write_run(
    root: Path, directory: int, parts: tuple[str, ...], data: bytes, *, with_backup: bool
) -> str | None:
    with as_archive_error("write", root.joinpath(*parts, layout.META_FILE)):
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            try:
                return _write(directory, parts, data, with_backup=with_backup)
            except FileNotFoundError:
                # Another writer failed, and removed the directory that it had created.
                if attempt == _MAX_ATTEMPTS:
                    raise
    raise AssertionError("the last attempt returns or raises")


def _write(root: int, parts: tuple[str, ...], data: bytes, *, with_backup: bool) -> str | None:
    """Write a run's file, then sync its directories, whoever created them.

    The file comes first because its sync commits the file system's journal, and with it the new
    directories: their own syncs then cost nothing.
    """
    backup = None
    directories = [root]
    created: list[int] = []
    try:
        _open_directories(directories, parts, created)
        run = directories[-1]
        if with_backup and len(parts) - 1 not in created:
            backup = _back_up(run, data)
        _write_file(run, layout.META_FILE, data)
        for directory in reversed(directories[_SHARED_LEVELS:-1]):
            os.fsync(directory)
    except BaseException:
        # Other readers fail on a run's directory without meta.json.
        for level in reversed(created):
            with suppress(OSError):
                os.rmdir(parts[level], dir_fd=directories[level])
        raise
    finally:
        for directory in directories[1:]:
            os.close(directory)
    return backup


def _open_directories(directories: list[int], parts: tuple[str, ...], created: list[int]) -> None:
    """Open the directories below the open root, down to a run's; follow no symbolic link.

    Appends them to `directories`, and the levels of those that it creates to `created`.
    """
    for level, name in enumerate(parts):
        with suppress(FileExistsError):
            os.mkdir(name, _DIRECTORY_MODE, dir_fd=directories[level])
            created.append(level)
            if level < _SHARED_LEVELS:
                os.fsync(directories[level])
        directories.append(os.open(name, _OPEN_DIRECTORY, dir_fd=directories[level]))


def _back_up(directory: int, data: bytes) -> str | None:
    """Copy a run's file to a name of its own, if there is one and it differs from `data`.

    A FIFO, a device or a link gets another name instead.
    """
    try:
        former = files.read(layout.META_FILE, directory)
    except FileNotFoundError:
        return None
    except files.NotRegularFile:
        name = f".{layout.META_FILE}.replaced-{secrets.token_hex(8)}"
        if stat.S_ISDIR(os.stat(layout.META_FILE, dir_fd=directory, follow_symlinks=False).st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)) from None
        os.rename(layout.META_FILE, name, src_dir_fd=directory, dst_dir_fd=directory)
        return name
    if former == data:
        return None
    name = f".{layout.META_FILE}.replaced-{hashlib.sha256(former).hexdigest()[:16]}"
    _write_file(directory, name, former)
    return name


def _write_file(
    directory: int, name: str, content: bytes | BinaryIO, *, replace: bool = True
) -> None:
    """Write a file atomically and durably; unless `replace`, one that exists stays as it is."""
    with atomic_file.create(name, directory, mode=_FILE_MODE, replace=replace) as file:
        if isinstance(content, bytes):
            file.write(content)
        else:
            shutil.copyfileobj(content, file)


@contextmanager
def _open_root(root: Path) -> Iterator[tuple[int, int]]:
    """Open the root, and read its version.

    Refuses an unknown version, and a mount point where nothing is mounted.
    """
    version_file = root / layout.VERSION_FILE
    with as_archive_error("write", version_file):
        directory = os.open(root, _OPEN_ROOT)
    try:
        with (
            as_archive_error("write", version_file),
            _open_fd(layout.VERSION_FILE, os.O_RDONLY | os.O_NONBLOCK, directory) as file,
        ):
            text = os.read(file, _MAX_VERSION_BYTES).decode("ascii", "replace").strip()
        version = next((known for known in layout.VERSIONS if text == str(known)), None)
        if version is None:
            known = " and ".join(map(str, layout.VERSIONS))
            raise ArchiveError(
                f"{version_file} has version {text!r:.20}: only versions {known} can be written"
            )
        yield directory, version
    finally:
        os.close(directory)


@contextmanager
def _open_fd(path: Path | str, flags: int, directory: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, flags, _FILE_MODE, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
