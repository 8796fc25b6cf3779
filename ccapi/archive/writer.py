"""Writing the archive: a reader sees the old file or the new one, never half of one."""

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ccapi.archive import layout, meta_json
from ccapi.errors import ArchiveError
from ccapi.model.job import Job, JobKey

_DIRECTORY_MODE = 0o750
_FILE_MODE = 0o640
_ATTEMPTS = 3
_LONGEST_VERSION = 64
# Directories of clusters and groups hold other runs, too, which rely on them at once.
_SHARED_LEVELS = 2
_ENTER_ROOT = os.O_RDONLY | os.O_DIRECTORY
_ENTER = _ENTER_ROOT | os.O_NOFOLLOW
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


def prepare(root: Path) -> None:
    """Make the archive's root and version.txt, unless they exist.

    Raises ArchiveError, also when another version of the layout is there.
    """
    version = root / layout.VERSION_FILE
    with _reasons(version):
        root.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        if not version.exists():
            with _opened(os.open(root, _ENTER_ROOT)) as directory:
                _replace(directory, layout.VERSION_FILE, f"{layout.VERSION}\n".encode())
    with _entered(root):
        pass


@contextmanager
def _entered(root: Path) -> Iterator[int]:
    """Open the root; refuses another version's, and a mount point that has none (any more)."""
    with _reasons(root, layout.VERSION_FILE):
        directory = os.open(root, _ENTER_ROOT)
    with _opened(directory):
        with _reasons(root, layout.VERSION_FILE):
            found = _version(directory)
        if found != layout.VERSION:
            version = root / layout.VERSION_FILE
            raise ArchiveError(f"{version} says {found!r:.20}: only version 1 can be written")
        yield directory


def _version(root: int) -> str:
    with _opened(os.open(layout.VERSION_FILE, os.O_RDONLY, dir_fd=root)) as file:
        return os.read(file, _LONGEST_VERSION).decode("ascii", "replace").strip()


def find(root: Path) -> None:
    """Refuse a root that exists without version.txt, where `prepare` would make a new archive."""
    with _reasons(root):
        if root.exists() and not (root / layout.VERSION_FILE).exists():
            raise ArchiveError(
                f"{root} holds no {layout.VERSION_FILE}: is the archive mounted? "
                f"If it is to be a new one, write {layout.VERSION} into that file"
            )


def require_writable(root: Path) -> None:
    """Write a byte below the root durably, into a file without a name; raises ArchiveError."""
    with _entered(root) as directory, _reasons(root):
        temporary = f".writable.{os.getpid()}.{secrets.token_hex(4)}"
        with _opened(os.open(temporary, _CREATE, _FILE_MODE, dir_fd=directory)) as file:
            os.unlink(temporary, dir_fd=directory)
            os.write(file, b"1")
            os.fsync(file)


def write(root: Path, job: Job) -> None:
    """Write a finished job's meta.json durably; raises ArchiveError."""
    put(root, job.key, meta_json.encode(job))


def replace(root: Path, job: Job) -> str | None:
    """Write a finished job's meta.json, and keep what it said before in a file beside it.

    Returns that file's name, None when there was nothing else to keep. Readers pass over
    the file; it is named after its content, so that keeping it again is no second file.
    Raises ArchiveError.
    """
    return put(root, job.key, meta_json.encode(job), keeps_former=True)


def put(root: Path, key: JobKey, data: bytes, *, keeps_former: bool = False) -> str | None:
    """Give a run's meta.json a content: all of it, durably, or ArchiveError and no change.

    Only when the very last steps fail, making the new names durable, may the new content be
    there already. Returns the name of the file that keeps the former content, if one does.
    """
    parts = layout.parts(key)
    with _entered(root) as directory, _reasons(root, *parts, layout.META_FILE):
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return _put(directory, parts, data, keeps_former=keeps_former)
            except FileNotFoundError:
                # Another writer failed, and took away the directory that it had made.
                if attempt == _ATTEMPTS:
                    raise
    raise AssertionError("the last attempt returns or raises")


def _put(root: int, parts: tuple[str, ...], data: bytes, *, keeps_former: bool) -> str | None:
    """Write a run's file, and only then make its directories durable, whoever made them.

    A file system with a journal writes them all at once with the file; made durable one by
    one, each would be a commit of the journal, which is what takes time.
    """
    kept = None
    directories = [root]
    made: list[int] = []
    try:
        _enter(directories, parts, made)
        *above, run = directories
        if keeps_former and len(parts) - 1 not in made:
            kept = _keep(run, data)
        _replace(run, layout.META_FILE, data)
        for directory in reversed(above[_SHARED_LEVELS:]):
            os.fsync(directory)
    except BaseException:
        # Readers trip over a run's directory without meta.json.
        for level in reversed(made):
            with suppress(OSError):
                os.rmdir(parts[level], dir_fd=directories[level])
        raise
    finally:
        for directory in directories[1:]:
            os.close(directory)
    return kept


def _enter(directories: list[int], parts: tuple[str, ...], made: list[int]) -> None:
    """Open the directories from the root, which is open, down to a run's.

    Makes those that are not there, and notes their levels in `made`. Follows no symbolic link.
    """
    for level, name in enumerate(parts):
        with suppress(FileExistsError):
            os.mkdir(name, _DIRECTORY_MODE, dir_fd=directories[level])
            made.append(level)
            if level < _SHARED_LEVELS:
                os.fsync(directories[level])
        directories.append(os.open(name, _ENTER, dir_fd=directories[level]))


def _keep(directory: int, data: bytes) -> str | None:
    """Keep a run's file beside it under another name, if it says anything else than `data`."""
    try:
        with os.fdopen(os.open(layout.META_FILE, os.O_RDONLY, dir_fd=directory), "rb") as file:
            former = file.read()
    except FileNotFoundError:
        return None
    if former == data:
        return None
    name = f".{layout.META_FILE}.replaced-{hashlib.sha256(former).hexdigest()[:16]}"
    _replace(directory, name, former)
    return name


def _replace(directory: int, name: str, data: bytes) -> None:
    """Put a file in place of another: written aside, made durable, renamed, made durable."""
    temporary = f".{name}.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        with os.fdopen(os.open(temporary, _CREATE, _FILE_MODE, dir_fd=directory), "wb") as file:
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
def _opened(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _reasons(root: Path, *parts: str) -> Iterator[None]:
    """Turn a failure of the operating system into an ArchiveError that names the file."""
    try:
        yield
    except OSError as error:
        path = root.joinpath(*parts)
        raise ArchiveError(f"cannot write {path}: {error.strerror or error}") from error
