"""Failures of the operating system while the archive is read or written."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ccapi.errors import ArchiveError


@contextmanager
def as_archive_error(verb: str, path: Path) -> Iterator[None]:
    """Raise an OSError as an ArchiveError: "cannot read /path: Permission denied"."""
    try:
        yield
    except OSError as error:
        raise ArchiveError(f"cannot {verb} {path}: {error.strerror or error}") from error
