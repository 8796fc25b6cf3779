"""Many HTTP requests from one thread, a connection each, as curl sends them.

An event loop of our own: it costs a tenth of a request to the service, so that the
load does not take the processor that it measures.
"""

import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

_CHUNK = 1 << 18
_IDLE_SECONDS = 0.5
# A listener whose queue is full refuses at once on a Unix socket; TCP would try again, too.
_RETRY_SECONDS = 0.002


class CachedResponse(NamedTuple):
    """What came back; `due` is when the request was to be sent, on the monotonic clock.

    `first` is when the first byte came. Status 0 is a connection that broke.
    """

    status: int
    due: float
    first: float
    done: float
    size: int

    @property
    def seconds(self) -> float:
        """Return how long the caller waited, counted from when the request was due."""
        return self.done - self.due


class _Pending:
    """A request under way."""

    __slots__ = ("connection", "due", "first", "head", "number", "size")

    def __init__(self, due: float, number: int) -> None:
        self.due = due
        self.number = number
        self.connection: socket.socket | None = None
        self.first = 0.0
        self.head = b""
        self.size = 0


class Load:
    """Requests to one Unix socket, at most `clients` at a time.

    `request` makes the bytes of the request with a number, counted from 0.
    """

    def __init__(self, path: str, request: Callable[[int], bytes], clients: int) -> None:
        self._path = path
        self._request = request
        self._clients = clients
        self._poll = select.epoll()
        self._pending: dict[int, _Pending] = {}
        self._refused: list[_Pending] = []
        self.answers: list[CachedResponse] = []

    def run(self, due: Iterator[float], seconds: float | None = None) -> None:
        """Send one request at each of the times, or later when all clients are busy.

        The times are on the monotonic clock, in order; 0 is "as soon as a client is free".
        With `seconds` none is sent after so many; in any case all answers are awaited.
        """
        end = time.monotonic() + seconds if seconds else float("inf")
        number, following = 0, next(due, None)
        while following is not None or self._pending or self._refused:
            now = time.monotonic()
            if now >= end:
                following = None
            self._retry()
            while following is not None and following <= now and self._has_room():
                self._send(_Pending(following or time.monotonic(), number))
                number, following = number + 1, next(due, None)
            self._receive(self._pause(following, now))

    def _has_room(self) -> bool:
        return len(self._pending) + len(self._refused) < self._clients

    def _pause(self, following: float | None, now: float) -> float:
        if self._refused:
            return _RETRY_SECONDS
        if following is None or not self._has_room():
            return _IDLE_SECONDS
        return max(0.0, following - now)

    def _retry(self) -> None:
        refused, self._refused = self._refused, []
        for pending in refused:
            self._send(pending)

    def _send(self, pending: _Pending) -> None:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(0)
        try:
            connection.connect(self._path)
            connection.sendall(self._request(pending.number))
        except BlockingIOError:
            connection.close()
            self._refused.append(pending)
            return
        except OSError:
            connection.close()
            self._end(pending)
            return
        pending.connection = connection
        self._pending[connection.fileno()] = pending
        self._poll.register(connection.fileno(), select.EPOLLIN)

    def _receive(self, timeout: float) -> None:
        for descriptor, _ in self._poll.poll(timeout):
            pending = self._pending[descriptor]
            assert pending.connection is not None
            try:
                data = pending.connection.recv(_CHUNK)
            except OSError:
                data = b""
            if data:
                self._take(pending, data)
            else:
                del self._pending[descriptor]
                pending.connection.close()
                self._end(pending)

    @staticmethod
    def _take(pending: _Pending, data: bytes) -> None:
        if not pending.size:
            pending.first = time.monotonic()
            pending.head = data[:12]
        pending.size += len(data)

    def _end(self, pending: _Pending) -> None:
        status = int(pending.head[9:12]) if pending.head.startswith(b"HTTP/1.") else 0
        answer = CachedResponse(status, pending.due, pending.first, time.monotonic(), pending.size)
        self.answers.append(answer)
