"""Probe what may hang, without hanging."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Result = TypeVar("Result")


class CachedProbe(Generic[Result]):
    """A probe that runs in its own thread, one at a time, and whose result is cached.

    However many callers ask, a probe costs one thread and one run per `ttl_seconds`. If it
    hangs, no other run piles up behind it.
    """

    def __init__(self, probe: Callable[[], Result], *, ttl_seconds: float) -> None:
        self._probe = probe
        self._ttl_seconds = ttl_seconds
        self._lock = threading.Lock()
        self._future: Future[Result] | None = None
        self._started_at = 0.0

    def result(self, timeout: float) -> Result:
        """Return the probe's result.

        Raises what the probe raised, or TimeoutError after `timeout` seconds.
        """

        def run(future: Future[Result]) -> None:
            try:
                future.set_result(self._probe())
            except BaseException as error:
                future.set_exception(error)

        with self._lock:
            future = self._future
            age = time.monotonic() - self._started_at
            if future is None or (future.done() and age > self._ttl_seconds):
                future = self._future = Future()
                self._started_at = time.monotonic()
                # A daemon: a thread that hangs on a dead disk must not keep the process alive.
                threading.Thread(target=run, args=(future,), daemon=True).start()
        return future.result(timeout)
