"""Read the files of a tree in which anything may lie: a FIFO, a device, a link, an endless file."""

import os
import stat
from pathlib import Path

from ccapi.errors import ArchiveError

MAX_BYTES = 64 << 20
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW


class NotRegularFile(ArchiveError):
    """Something that is not a file has the name of one."""


def read(path: Path | str, directory: int | None = None) -> bytes:
    """Return the content of a regular file; never waits for another program.

    Raises NotRegularFile, ArchiveError for a file of more than MAX_BYTES, and OSError.
    """
    _require_regular(os.stat(path, dir_fd=directory, follow_symlinks=False))
    with os.fdopen(os.open(path, _READ, dir_fd=directory), "rb") as file:
        _require_regular(os.fstat(file.fileno()))
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ArchiveError(f"is larger than {MAX_BYTES >> 20} MiB")
    return data


def _require_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise NotRegularFile("is not a regular file")
