"""The directory in which gunicorn's workers share what they count.

Each worker has files of its own in it, named after its process; who reads them adds them up.
Nothing here imports prometheus_client before the directory is known: it looks only once.
"""

import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_PREFIX = "ccapi-metrics-"
# In memory: where a disk is full, writing to a mapped file would end the worker.
_MEMORY = Path("/dev/shm")  # noqa: S108 - a private directory is made in it
_ADDED_UP = ("counter", "histogram")
_REST = "other"
_BLOCK = 65_536


def make(uid: int, gid: int) -> Path:
    """Make an empty directory for this process's workers, and take away those of the dead."""
    in_memory = _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK)
    base = _MEMORY if in_memory else Path(tempfile.gettempdir())
    _clear(base)
    directory = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=base))
    if os.geteuid() == 0:
        os.chown(directory, uid, gid)
    os.environ[VARIABLE] = str(directory)
    return directory


def _clear(base: Path) -> None:
    for left in base.glob(f"{_PREFIX}*"):
        with suppress(OSError, ValueError):
            pid = int(left.name.removeprefix(_PREFIX).partition("-")[0])
            is_ours = left.lstat().st_uid == os.geteuid() and not left.is_symlink()
            if is_ours and not Path(f"/proc/{pid}").exists():
                shutil.rmtree(left)


def remove(directory: Path) -> None:
    """Take the directory away when its workers have ended."""
    shutil.rmtree(directory, ignore_errors=True)


def directory() -> Path | None:
    """Return the directory that this process shares; None when it counts for itself."""
    name = os.environ.get(VARIABLE)
    return Path(name) if name else None


@contextmanager
def locked(directory: Path) -> Iterator[int]:
    """Keep others from adding up and reading meanwhile; yields the lock file's descriptor."""
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def fold(directory: Path, pid: int) -> None:
    """Add what a worker counted that has ended to what earlier ones did.

    So counts survive, and the number of files does not grow with the years.
    """
    from prometheus_client.mmap_dict import MmapedDict  # noqa: PLC0415 - see above
    from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415

    with locked(directory):
        mark_process_dead(pid, str(directory))
        for kind in _ADDED_UP:
            own = directory / f"{kind}_{pid}.db"
            if own.exists():
                _add(MmapedDict, own, directory / f"{kind}_0.db")
                own.unlink()


def _add(mapped: type, source: Path, target: Path) -> None:
    _reserve(target, _used(target) + _used(source))
    total = mapped(str(target))
    for key, value, *_ in mapped.read_all_values_from_file(str(source)):  # type: ignore[attr-defined]
        if value:
            total.write_value(key, total.read_value(key)[0] + value, 0.0)
    total.close()


def _used(file: Path) -> int:
    """Return how much of a file of prometheus_client's is in use, which its first bytes say."""
    if not file.exists():
        return 0
    with file.open("rb") as opened:
        return int.from_bytes(opened.read(4), sys.byteorder)


def _reserve(file: Path, size: int) -> None:
    """Make room beforehand: where memory is full, this is an error, and later a dead process."""
    with file.open("ab") as opened:
        try:
            os.posix_fallocate(opened.fileno(), 0, (size // _BLOCK + 1) * _BLOCK)
        except OSError:
            if opened.tell() == 0:
                file.unlink()  # Readers trip over an empty file.
            raise


class Names:
    """The names that may be a label: the first `limit` that any worker met, and "other"."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def label(self, name: str) -> str:
        """Return the name, or "other" when there are too many already."""
        if name in self._known:
            return name
        if len(self._known) < self._limit:
            self._agree(name)
        return name if name in self._known else _REST

    def _agree(self, name: str) -> None:
        """Learn the names that all workers know, and let them know ours if there is room."""
        shared = directory()
        if shared is None:
            self._known.add(name)
            return
        with locked(shared) as file:
            size = os.fstat(file).st_size
            self._known.update(os.pread(file, size, 0).decode().split())
            if name not in self._known and len(self._known) < self._limit:
                os.pwrite(file, f"{name}\n".encode(), size)
                self._known.add(name)
