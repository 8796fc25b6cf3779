"""Replace a file as a whole: readers, also after a crash, see the old one or the new one."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


@contextmanager
def create(
    name: str, directory: int, *, mode: int = 0o640, replace: bool = True
) -> Iterator[BinaryIO]:
    """Yield a new file, which gets its name in an open directory at the end of the block.

    It is synced before, and the directory afterwards. If the block raises, there is no new file.
    Unless `replace`, a file that exists stays as it is.
    """
    temporary = f".{name}.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        with os.fdopen(os.open(temporary, _CREATE, mode, dir_fd=directory), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        else:
            with suppress(FileExistsError):
                os.link(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            os.unlink(temporary, dir_fd=directory)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
    os.fsync(directory)


@contextmanager
def create_at(path: Path, *, mode: int = 0o640) -> Iterator[BinaryIO]:
    """Yield a new file, as `create` does, which replaces the one at a path."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with create(path.name, directory, mode=mode) as file:
            yield file
    finally:
        os.close(directory)
