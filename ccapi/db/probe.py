"""Asking what may hang, without hanging oneself."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

CachedResponse = TypeVar("Answer")


class CachedProbe(Generic[CachedResponse]):
    """A question that is asked in a thread of its own, one at a time, its answer kept a while.

    However often and by however many it is wanted, it costs one thread and, in
    `fresh_seconds`, one asking; where that hangs, nothing piles up behind it.
    """

    def __init__(self, ask: Callable[[], CachedResponse], *, ttl_seconds: float) -> None:
        self._ask = ask
        self._fresh_seconds = ttl_seconds
        self._lock = threading.Lock()
        self._asked: Future[CachedResponse] | None = None
        self._asked_at = 0.0

    def answer(self, patience: float) -> CachedResponse:
        """Return the answer; raises what asking raised, TimeoutError after `patience` seconds."""
        with self._lock:
            asked = self._asked
            if asked is None or (asked.done() and self._age() > self._fresh_seconds):
                asked = self._asked = Future()
                self._asked_at = time.monotonic()
                # A daemon: a thread that hangs on a dead disk must not keep the process.
                threading.Thread(target=self._fulfil, args=(asked,), daemon=True).start()
        return asked.result(patience)

    def _age(self) -> float:
        return time.monotonic() - self._asked_at

    def _fulfil(self, asked: Future[CachedResponse]) -> None:
        try:
            asked.set_result(self._ask())
        except BaseException as error:
            asked.set_exception(error)
