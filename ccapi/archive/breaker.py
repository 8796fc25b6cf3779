"""A time limit for the archive: a file system that hangs must not hold the requests."""

import logging
import os
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, nullcontext, suppress
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

from ccapi.errors import ArchiveError, Busy

Result = TypeVar("Result")

_log = logging.getLogger(__name__)
_PROBE_INTERVAL_SECONDS = 1
# How long a call may take without a slot.
_SHORT_SECONDS = 0.5


class ArchiveTimeout(ArchiveError):
    """The archive does not answer in time."""


class CircuitBreaker:
    """Runs calls to the archive in threads, within a time limit.

    After a timeout, calls fail at once: no other one touches a file system that hangs. A call
    that waits for longer than a moment needs a slot, so that a hanging file system does not hold
    all workers; without one, `hold_slot` raises Busy. When the late call has returned and `probe`
    succeeds, `on_recovery` gets the ids of the jobs whose files may have been written late, and
    calls run again. SIGKILL does not end a thread that hangs; it is a daemon, so that it does not
    keep the process alive.
    """

    def __init__(
        self,
        timeout: float = 5,
        probe: Callable[[], object] = lambda: None,
        hold_slot: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.on_recovery: Callable[[Collection[int]], object] | None = None
        self._timeout = timeout
        self._probe = probe
        self._hold_slot = hold_slot
        self._lock = threading.Lock()
        self._late: list[_LateCall] = []

    @property
    def is_open(self) -> bool:
        """Return whether calls fail at once."""
        return bool(self._late)

    def run(
        self, function: Callable[..., Result], *args: object, job_id: int | None = None
    ) -> Result:
        """Return what the function returns; raises what it raises, and ArchiveTimeout.

        `job_id` is the job whose file the function writes.
        """
        if self.is_open:
            raise ArchiveTimeout("the archive does not answer")
        future: Future[Result] = Future()

        def call() -> None:
            try:
                future.set_result(function(*args))
            except BaseException as error:
                future.set_exception(error)

        _threads.submit(call)
        seconds = min(_SHORT_SECONDS, self._timeout)
        try:
            return future.result(seconds)
        except TimeoutError:
            with suppress(Busy, TimeoutError), self._hold_slot():
                seconds = self._timeout
                future.exception(seconds - min(_SHORT_SECONDS, seconds))
            if future.done():  # It came just now, or the error is the function's own.
                return future.result()
        with self._lock:
            self._late.append(_LateCall(future, job_id))
            if len(self._late) == 1:
                _log.warning("the archive does not answer within %s seconds", seconds)
                _threads.submit(self._recover)
        raise ArchiveTimeout(f"the archive does not answer within {seconds:g} seconds")

    def _recover(self) -> None:
        """Wait until the archive answers, and let calls run again."""
        while True:
            wait([call.future for call in self._late])
            try:
                self._probe()
            except ArchiveError:
                time.sleep(_PROBE_INTERVAL_SECONDS)
                continue
            with self._lock:
                if all(call.future.done() for call in self._late):
                    job_ids = {call.job_id for call in self._late if call.job_id is not None}
                    self._late = []
                    break
        _log.warning("the archive answers again")
        if self.on_recovery is not None:
            self.on_recovery(job_ids)


class _LateCall(NamedTuple):
    """A call after its timeout, and the job whose file it writes."""

    future: Future[Any]
    job_id: int | None


class _Threads:
    """Daemon threads, as many as calls ever ran at the same time."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin without threads: a child process has none of its parent's."""
        self._calls: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0

    def submit(self, call: Callable[[], object]) -> None:
        """Run a call in an idle thread, or in a new one."""
        with self._lock:
            self._calls.put(call)
            if self._idle:
                self._idle -= 1
                return
        threading.Thread(target=self._work, name="archive", daemon=True).start()

    def _work(self) -> None:
        while True:
            self._calls.get()()
            with self._lock:
                self._idle += 1


_threads = _Threads()
os.register_at_fork(after_in_child=_threads.reset)
