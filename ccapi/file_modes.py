"""Warnings about files that other users can read, write or connect to."""

import stat
from collections.abc import Iterable, Iterator
from pathlib import Path


def warnings(secret_files: Iterable[Path], archive_root: Path) -> Iterator[str]:
    """Yield warnings about files with a password, and the archive; ignore missing files."""
    for file in secret_files:
        mode = _mode(file)
        if mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
            yield f"other users can access {file}, which has a password: run `chmod o=,g-w {file}`"
    if _mode(archive_root) & stat.S_IWOTH:
        yield f"every user can change the archive: run `chmod o-w {archive_root}`"


def socket_warnings(names: Iterable[object]) -> Iterator[str]:
    """Yield warnings about Unix sockets to which every user may connect."""
    for path in (Path(name) for name in names if isinstance(name, str) and name):
        if _mode(path) & stat.S_IWOTH:
            yield f"every user can connect to {path}, past the proxy: run `chmod o= {path}`"


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:
        return 0
