"""Writing the archive: a reader sees the old file or the new one, never half of one."""

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ccapi.archive import document, layout
from ccapi.errors import ArchiveError
from ccapi.model.job import Job, JobKey

_DIRECTORY_MODE = 0o750
_FILE_MODE = 0o640
_ATTEMPTS = 3
_ENTER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


def prepare(root: Path) -> None:
    """Make the archive's root and version.txt, unless they exist.

    Raises ArchiveError, also when another version of the layout is there.
    """
    version = root / layout.VERSION_FILE
    with _reasons(version):
        root.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        if not version.exists():
            with _opened(os.open(root, os.O_RDONLY | os.O_DIRECTORY)) as directory:
                _replace(directory, layout.VERSION_FILE, f"{layout.VERSION}\n".encode())
    _require_version(root)


def _require_version(root: Path) -> None:
    """Refuse another version's archive, and a mount point that has none (any more)."""
    version = root / layout.VERSION_FILE
    with _reasons(version):
        found = version.read_text("ascii", "replace").strip()
    if found != layout.VERSION:
        raise ArchiveError(f"{version} says {found!r:.20}: only version 1 can be written")


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
    _require_version(root)
    with _reasons(root):
        temporary = root / f".writable.{os.getpid()}.{secrets.token_hex(4)}"
        with _opened(os.open(temporary, _CREATE, _FILE_MODE)) as file:
            temporary.unlink()
            os.write(file, b"1")
            os.fsync(file)


def write(root: Path, job: Job) -> None:
    """Write a finished job's meta.json durably; raises ArchiveError."""
    put(root, layout.key_of(job), document.encode(job))


def replace(root: Path, job: Job) -> str | None:
    """Write a finished job's meta.json, and keep what it said before in a file beside it.

    Returns that file's name, None when there was nothing else to keep. Readers pass over
    the file; it is named after its content, so that keeping it again is no second file.
    Raises ArchiveError.
    """
    key, data = layout.key_of(job), document.encode(job)
    kept = _keep(root, key, data)
    put(root, key, data)
    return kept


def _keep(root: Path, key: JobKey, data: bytes) -> str | None:
    path = layout.meta_path(root, key)
    with _reasons(path):
        try:
            former = path.read_bytes()
        except FileNotFoundError:
            return None
        if former == data:
            return None
        name = f".{layout.META_FILE}.replaced-{hashlib.sha256(former).hexdigest()[:16]}"
        with _opened(_enter(root, layout.parts(key), [])) as directory:
            _replace(directory, name, former)
    return name


def put(root: Path, key: JobKey, data: bytes) -> None:
    """Give a run's meta.json a content: all of it, durably, or ArchiveError and no change.

    Only when the very last step fails, making the file's new name durable, may the new
    content be there already.
    """
    parts = layout.parts(key)
    path = layout.meta_path(root, key)
    _require_version(root)
    with _reasons(path):
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                _put(root, parts, data)
                break
            except FileNotFoundError:
                # Another writer failed, and took away the directory that it had made.
                if attempt == _ATTEMPTS:
                    raise


def _put(root: Path, parts: tuple[str, ...], data: bytes) -> None:
    made: list[Path] = []
    try:
        with _opened(_enter(root, parts, made)) as directory:
            _replace(directory, layout.META_FILE, data)
    except BaseException:
        # Readers trip over a run's directory without meta.json.
        for path in reversed(made):
            with suppress(OSError):
                path.rmdir()
        raise


def _enter(root: Path, parts: tuple[str, ...], made: list[Path]) -> int:
    """Open a directory below the root, making it if needed; never through a symbolic link."""
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    path = root
    for name in parts:
        path /= name
        with _opened(directory):
            _make(path, directory, made)
            directory = os.open(name, _ENTER, dir_fd=directory)
    return directory


def _make(path: Path, parent: int, made: list[Path]) -> None:
    """Make a directory durably, unless it exists; note in `made` that it was not there."""
    with suppress(FileExistsError):
        os.mkdir(path.name, _DIRECTORY_MODE, dir_fd=parent)
        made.append(path)
        os.fsync(parent)


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
def _reasons(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArchiveError(f"cannot write {path}: {error.strerror or error}") from error
