"""What each token may use of the database in a minute, over all workers of a gunicorn.

The uses are in the file that the workers share (ccapi/db/slots.py), a record for each token.
"""

import fcntl
import math
import os
import struct
import threading
import time
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial

from ccapi.db import slots
from ccapi.errors import TooManyRequests

# What a connection calls when it is returned, with the seconds for which it was in use.
on_return: ContextVar[Callable[[float], None] | None] = ContextVar("on_return", default=None)
_WINDOW_SECONDS = 60
# A token's id, its minute, and the seconds in use.
_RECORD = struct.Struct("=qqd")
# Two tokens whose ids differ by a multiple of this number reset each other, rarely.
_RECORDS = 65_536


class Budgets:
    """The seconds a minute for which each token may hold connections; shared by the workers."""

    def __init__(self, seconds: float = math.inf) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._own_file: int | None = None

    def begin(self, token: int) -> None:
        """Charge the current request to a token; raises TooManyRequests if it has used it all."""
        now = time.time()
        minute = int(now // _WINDOW_SECONDS)
        if self._used(token, minute) >= self._seconds:
            wait = (minute + 1) * _WINDOW_SECONDS - now
            raise TooManyRequests(
                f"this token has used the database for {self._seconds:g} seconds within this "
                f"minute: try again in {wait:.0f} seconds, and request less or less often",
                wait,
            )
        on_return.set(partial(self._charge, token))

    def _file(self) -> int:
        """Return the file of the workers; without a gunicorn, one of this process."""
        if (shared := slots.shared_file()) is not None:
            return shared
        if self._own_file is None:
            self._own_file = os.memfd_create("ccapi-budgets")
            weakref.finalize(self, os.close, self._own_file)
        return self._own_file

    def _used(self, token: int, minute: int) -> float:
        record = os.pread(self._file(), _RECORD.size, token % _RECORDS * _RECORD.size)
        if len(record) < _RECORD.size:
            return 0
        owner, its_minute, seconds = _RECORD.unpack(record)
        return float(seconds) if (owner, its_minute) == (token, minute) else 0

    def _charge(self, token: int, seconds: float) -> None:
        minute = int(time.time() // _WINDOW_SECONDS)
        file, start = self._file(), token % _RECORDS * _RECORD.size
        # Behind the bytes that are locked as slots.
        lock = slots.MAX_SLOTS + token % _RECORDS
        with self._lock:
            fcntl.lockf(file, fcntl.LOCK_EX, 1, lock)
            try:
                used = self._used(token, minute) + seconds
                os.pwrite(file, _RECORD.pack(token, minute, used), start)
            finally:
                fcntl.lockf(file, fcntl.LOCK_UN, 1, lock)
