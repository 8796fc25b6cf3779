"""The directory in which gunicorn's workers share their metrics.

Each worker has its own files there, named after its process; a scrape adds them up, and those of
the other pools of workers with the same settings file. Nothing here imports prometheus_client
before the directory is known, because it looks for it on import.
"""

import fcntl
import hashlib
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_PREFIX = "ccapi-metrics-"
# In memory: on a full disk, a write to a mapped file would kill the worker.
_MEMORY = Path("/dev/shm")  # noqa: S108 - a private directory is made in it
_SUMMED = ("counter", "histogram")
_OTHER = "other"
_BLOCK_BYTES = 65_536
# The files of a worker, and their size with MAX_CLUSTERS and all operations.
_WORKER_BYTES = {"counter": 524_288, "histogram": 262_144, "gauge_livesum": 65_536}
# The file that a gunicorn locks, and how long it may take to make it.
_LIVE, _MAKING_SECONDS = "live", 60
_live: dict[Path, int] = {}
# A process, the digest of its settings file's path, and a random part.
_POOL = re.compile(rf"{_PREFIX}\d+-([0-9a-f]{{8}})-\w+")


def make(uid: int, gid: int) -> Path:
    """Make an empty directory for this process's workers; remove those of dead processes."""
    in_memory = _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK)
    base = _MEMORY if in_memory else Path(tempfile.gettempdir())
    for path in base.glob(f"{_PREFIX}[0-9]*-*"):
        with suppress(OSError):
            if _is_ours(path) and not _is_live(path):
                shutil.rmtree(path)
    prefix = f"{_PREFIX}{os.getpid()}-"
    if settings := os.environ.get("CCAPI_CONFIG"):
        prefix += f"{hashlib.sha256(os.path.realpath(settings).encode()).hexdigest()[:8]}-"
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
    if os.geteuid() == 0:
        os.chown(directory, uid, gid)
    os.environ[VARIABLE] = str(directory)
    _live[directory] = os.open(directory / _LIVE, os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(_live[directory], fcntl.LOCK_SH)
    return directory


def prepare_worker(pid: int, uid: int, gid: int) -> bool:
    """Allocate the memory of a new worker's files; return whether there was enough.

    prometheus_client writes into mapped files, and the kernel kills a process that writes
    where a full file system has no memory. Without memory the worker counts for itself.
    """
    shared = directory()
    if shared is None:
        return True
    files = [shared / f"{kind}_{pid}.db" for kind in _WORKER_BYTES]
    try:
        for file, size in zip(files, _WORKER_BYTES.values(), strict=True):
            _reserve(file, size - 1)
            if os.geteuid() == 0:
                os.chown(file, uid, gid)
    except OSError:
        for file in files:
            file.unlink(missing_ok=True)
        del os.environ[VARIABLE]
        # gunicorn's master has imported it, and chosen mapped files, if a worker has died before.
        if values := sys.modules.get("prometheus_client.values"):
            vars(values)["ValueClass"] = vars(values)["MutexValue"]
        return False
    return True


def remove(directory: Path) -> None:
    """Remove the directory when its workers have ended, and no scrape reads it."""
    with suppress(OSError), locked(directory):
        shutil.rmtree(directory)
    if (descriptor := _live.pop(directory, None)) is not None:
        os.close(descriptor)


def directory() -> Path | None:
    """Return the directory that this process shares with others; None if it is alone."""
    name = os.environ.get(VARIABLE)
    return Path(name) if name else None


@contextmanager
def locked_pools() -> Iterator[list[Path]]:
    """Lock and yield the directories of all pools with this one's settings; none if it is alone."""
    own = directory()
    candidates = [] if own is None else [own]
    if own is not None and (match := _POOL.fullmatch(own.name)):
        candidates += set(own.parent.glob(f"{_PREFIX}*-{match[1]}-*")) - {own}
    pools = []
    with ExitStack() as stack:
        # In the order of their names, so that two scrapes do not wait for each other.
        for path in sorted(candidates):
            with suppress(FileNotFoundError):  # A pool may just have ended.
                if path == own or (_is_ours(path) and _is_live(path)):
                    stack.enter_context(locked(path))
                    pools.append(path)
        yield pools


def _is_live(path: Path) -> bool:
    """Return whether the gunicorn of a directory runs: it locks a file as long as it lives.

    Its process id says nothing: other units of systemd do not see it.
    """
    try:
        descriptor = os.open(path / _LIVE, os.O_RDONLY)
    except FileNotFoundError:
        return time.time() - path.lstat().st_mtime < _MAKING_SECONDS
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _is_ours(path: Path) -> bool:
    """Return whether this user made the directory."""
    return path.lstat().st_uid == os.geteuid() and not path.is_symlink()


@contextmanager
def locked(directory: Path) -> Iterator[int]:
    """Lock the directory against other changes and scrapes; yield the lock file's descriptor."""
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def merge_dead_worker(directory: Path, pid: int) -> None:
    """Add the counts of a worker that has ended to those of earlier ones, and remove its files.

    So counts survive their workers, and the number of files stays small.
    """
    from prometheus_client.mmap_dict import MmapedDict  # noqa: PLC0415 - see above
    from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415 - see above

    with locked(directory):
        mark_process_dead(pid, str(directory))
        for kind in _SUMMED:
            source, target = directory / f"{kind}_{pid}.db", directory / f"{kind}_0.db"
            if not source.exists():
                continue
            _reserve(target, _used(target) + _used(source))
            total = MmapedDict(str(target))
            for key, value, *_ in MmapedDict.read_all_values_from_file(str(source)):
                if value:
                    total.write_value(key, total.read_value(key)[0] + value, 0.0)
            total.close()
            source.unlink()


def _used(file: Path) -> int:
    """Return how many bytes of a file of prometheus_client are in use: its first bytes say so."""
    if not file.exists():
        return 0
    with file.open("rb") as stream:
        return int.from_bytes(stream.read(4), sys.byteorder)


def _reserve(file: Path, size: int) -> None:
    """Allocate the file's memory now: without it, a later write would kill the process."""
    with file.open("ab") as stream:
        try:
            os.posix_fallocate(stream.fileno(), 0, (size // _BLOCK_BYTES + 1) * _BLOCK_BYTES)
        except OSError:
            if stream.tell() == 0:
                file.unlink()  # A scrape fails on an empty file.
            raise


class LabelLimiter:
    """Limits a label to the first `limit` names that any worker used, and "other"."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._names: set[str] = set()

    def label(self, name: str) -> str:
        """Return the name, or "other" if there are too many already."""
        if name not in self._names and len(self._names) < self._limit:
            workers = directory()
            if workers is None:
                self._names.add(name)
                return name
            # A full file system, or a directory that somebody removed, must not fail a request.
            with suppress(OSError), locked(workers) as file:
                size = os.fstat(file).st_size
                self._names.update(os.pread(file, size, 0).decode().split())
                if name not in self._names and len(self._names) < self._limit:
                    self._names.add(name)
                    os.pwrite(file, f"{name}\n".encode(), size)
        return name if name in self._names else _OTHER
