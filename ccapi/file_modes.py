"""Who else may read secrets, write the archive, or connect past the proxy."""

import stat
from collections.abc import Iterable, Iterator
from pathlib import Path


def warnings(secret_files: Iterable[Path], archive_root: Path) -> Iterator[str]:
    """Say what is open to other users that should not be; a file that is not there is not."""
    for file in secret_files:
        mode = _mode(file)
        if mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
            yield f"{file} holds a password and is open to others: run `chmod o=,g-w {file}`"
    if _mode(archive_root) & stat.S_IWOTH:
        yield f"everybody may change the archive: run `chmod o-w {archive_root}`"


def socket_warnings(names: Iterable[object]) -> Iterator[str]:
    """Say which Unix sockets everybody may connect to, who can reach their directory."""
    for path in (Path(name) for name in names if isinstance(name, str) and name):
        if _mode(path) & stat.S_IWOTH:
            yield f"everybody may connect to {path}, past the proxy: run `chmod o= {path}`"


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:
        return 0
