"""Write the archive: readers see the old file or the new one, never a part of it."""

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ccapi.archive import layout, meta_json
from ccapi.archive.os_errors import as_archive_error
from ccapi.errors import ArchiveError
from ccapi.model.job import Job, JobKey

_DIRECTORY_MODE = 0o750
_FILE_MODE = 0o640
_MAX_ATTEMPTS = 3
_MAX_VERSION_BYTES = 64
# Writers of other runs rely on existing directories of cluster and group, so these are synced
# as soon as they are created.
_SHARED_LEVELS = 2
_OPEN_ROOT = os.O_RDONLY | os.O_DIRECTORY
_OPEN_DIRECTORY = _OPEN_ROOT | os.O_NOFOLLOW
_CREATE_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


def create_if_missing(root: Path) -> None:
    """Create the archive's root and version.txt, unless they exist.

    Raises ArchiveError, also for another version of the layout.
    """
    version_file = root / layout.VERSION_FILE
    with as_archive_error("write", version_file):
        root.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        if not version_file.exists():
            with _open_fd(root, _OPEN_ROOT) as directory:
                _replace_file(directory, layout.VERSION_FILE, f"{layout.VERSION}\n".encode())
    with _open_root(root):
        pass


def require_mounted(root: Path) -> None:
    """Refuse a root without version.txt, where `create_if_missing` would start a new archive."""
    with as_archive_error("write", root):
        if root.exists() and not (root / layout.VERSION_FILE).exists():
            raise ArchiveError(
                f"{root} has no {layout.VERSION_FILE}: is the archive mounted? "
                f"To start a new archive there, write {layout.VERSION} to that file"
            )


def require_writable(root: Path) -> None:
    """Write a byte below the root durably, to a file that is already deleted."""
    with _open_root(root) as directory, as_archive_error("write", root):
        name = f".writable.{os.getpid()}.{secrets.token_hex(4)}"
        with _open_fd(name, _CREATE_FILE, directory) as file:
            os.unlink(name, dir_fd=directory)
            os.write(file, b"1")
            os.fsync(file)


def write(root: Path, job: Job) -> None:
    """Write a finished job's meta.json durably; raises ArchiveError."""
    write_bytes(root, job.key, meta_json.encode(job))


def write_with_backup(root: Path, job: Job) -> str | None:
    """Write a finished job's meta.json; keep a file with a different content beside it.

    Returns the backup's name, None if there is none. It depends on the content, so the same
    content is backed up once; readers ignore it. Raises ArchiveError.
    """
    return write_bytes(root, job.key, meta_json.encode(job), with_backup=True)


def write_bytes(root: Path, key: JobKey, data: bytes, *, with_backup: bool = False) -> str | None:
    """Write a run's meta.json durably, and return the name of the backup if there is one.

    Raises ArchiveError. Then nothing has changed, unless the last step failed, which makes the
    new names durable: the new content may be there already.
    """
    parts = layout.parts(key)
    path = root.joinpath(*parts, layout.META_FILE)
    with _open_root(root) as directory, as_archive_error("write", path):
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
        _replace_file(run, layout.META_FILE, data)
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
    """Copy a run's file to a name of its own, if there is one and it differs from `data`."""
    try:
        with os.fdopen(os.open(layout.META_FILE, os.O_RDONLY, dir_fd=directory), "rb") as file:
            former = file.read()
    except FileNotFoundError:
        return None
    if former == data:
        return None
    name = f".{layout.META_FILE}.replaced-{hashlib.sha256(former).hexdigest()[:16]}"
    _replace_file(directory, name, former)
    return name


def _replace_file(directory: int, name: str, data: bytes) -> None:
    """Replace a file atomically and durably: write another one, sync, rename, sync."""
    temporary = f".{name}.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        with os.fdopen(
            os.open(temporary, _CREATE_FILE, _FILE_MODE, dir_fd=directory), "wb"
        ) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
    os.fsync(directory)


@contextmanager
def _open_root(root: Path) -> Iterator[int]:
    """Open the root; refuse another version, and a mount point where nothing is mounted."""
    version_file = root / layout.VERSION_FILE
    with as_archive_error("write", version_file):
        directory = os.open(root, _OPEN_ROOT)
    try:
        with (
            as_archive_error("write", version_file),
            _open_fd(layout.VERSION_FILE, os.O_RDONLY, directory) as file,
        ):
            version = os.read(file, _MAX_VERSION_BYTES).decode("ascii", "replace").strip()
        if version != layout.VERSION:
            raise ArchiveError(
                f"{version_file} has version {version!r:.20}: only version 1 can be written"
            )
        yield directory
    finally:
        os.close(directory)


@contextmanager
def _open_fd(path: Path | str, flags: int, directory: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, flags, _FILE_MODE, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
