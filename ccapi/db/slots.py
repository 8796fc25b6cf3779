"""Slots for what may occupy workers for long: those of a gunicorn do only so much at a time.

A slot is a lock of a byte of a file without a name, which the workers inherit from gunicorn's
master. The kernel releases the locks of a worker that dies.
"""

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from ccapi.errors import Busy


@dataclass(frozen=True)
class _Workers:
    """The file that the workers of this gunicorn share, and the number of all their threads."""

    file: int
    threads: Callable[[], int]


_shared: list[_Workers] = []
# The first bytes are locked as slots of expensive requests; ccapi/db/budgets.py locks later ones.
MAX_SLOTS = 1 << 20
# The first byte of the slots of requests that wait for the archive.
ARCHIVE_WAITS = 1 << 40


def share(threads: Callable[[], int]) -> None:
    """Make the file; gunicorn's master calls it before it forks.

    The workers call `threads`: their number may change with a reload.
    """
    _shared[:] = [_Workers(os.memfd_create("ccapi-slots"), threads)]


def shared_file() -> int | None:
    """Return the file that this gunicorn's workers share; None without a gunicorn."""
    return _shared[0].file if _shared else None


class Slots:
    """A share of the workers' threads, at least one; all of them if there is no gunicorn.

    Within a process, at most the same share of its connections are held. `first` is the first
    byte.
    """

    def __init__(self, share: float, connections: int, first: int = 0) -> None:
        self._share = share
        self._first = first
        self._max_connections = max(1, int(share * connections))
        self._held: set[int] = set()
        self._lock = threading.Lock()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Use a slot during the block; raises Busy if all are in use."""
        if not _shared or self._share >= 1:
            yield
            return
        [workers] = _shared
        number_of_slots = min(max(1, int(self._share * workers.threads())), MAX_SLOTS)
        slot = None
        with self._lock:
            if len(self._held) < self._max_connections:
                # A process gets a lock again that it has, so those are left out.
                numbers = range(self._first, self._first + number_of_slots)
                for number in set(numbers) - self._held:
                    with suppress(BlockingIOError, PermissionError):
                        fcntl.lockf(workers.file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
                        slot = number
                        break
            if slot is None:
                raise Busy(
                    f"the service answers {number_of_slots} long lists or large statistics "
                    "already; try again, or request fewer jobs"
                )
            self._held.add(slot)
        try:
            yield
        finally:
            with self._lock:
                fcntl.lockf(workers.file, fcntl.LOCK_UN, 1, slot)
                self._held.remove(slot)
