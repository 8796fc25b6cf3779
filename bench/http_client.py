"""Many HTTP clients in one thread; each request has a connection of its own, as with curl.

A library would cost more: this event loop needs a tenth of the CPU time that a request
costs the service, so the load hardly slows down what it measures.
"""

import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

_RECEIVE_BYTES = 1 << 18
_IDLE_SECONDS = 0.5
# A full listen queue refuses connections to a Unix socket at once; with TCP the kernel retries.
_RETRY_SECONDS = 0.002


class Response(NamedTuple):
    """A response, with its times on the monotonic clock.

    `due` is the time when the request should have been sent. Status 0 is a broken connection.
    """

    status: int
    due: float
    first_byte: float
    end: float
    size: int


class _Exchange:
    """A request, and the part of its response that has arrived."""

    __slots__ = ("connection", "due", "first_byte", "head", "index", "size")

    def __init__(self, due: float, index: int) -> None:
        self.due = due
        self.index = index
        self.connection: socket.socket | None = None
        self.first_byte = 0.0
        self.head = b""
        self.size = 0


class ClientPool:
    """Sends requests to a Unix socket, at most `clients` at a time.

    `make_request` returns the bytes of a request; its argument counts from 0.
    """

    def __init__(self, path: str, make_request: Callable[[int], bytes], clients: int) -> None:
        self._path = path
        self._make_request = make_request
        self._clients = clients
        self._epoll = select.epoll()
        self._pending: dict[int, _Exchange] = {}
        self._refused: list[_Exchange] = []
        self.responses: list[Response] = []

    def run(self, due_times: Iterator[float], seconds: float | None = None) -> None:
        """Send a request at each due time, or as soon as a client is free; await all responses.

        Due times are sorted and on the monotonic clock; 0 means as soon as a client is free.
        After `seconds` no more requests are sent.
        """
        deadline = time.monotonic() + seconds if seconds else float("inf")
        index, due = 0, next(due_times, None)
        while due is not None or self._pending or self._refused:
            now = time.monotonic()
            if now >= deadline:
                due = None
            refused, self._refused = self._refused, []
            for exchange in refused:
                self._send(exchange)
            while due is not None and due <= now and self._has_free_client():
                self._send(_Exchange(due or time.monotonic(), index))
                index, due = index + 1, next(due_times, None)
            self._receive(self._poll_timeout(due, now))

    def _has_free_client(self) -> bool:
        return len(self._pending) + len(self._refused) < self._clients

    def _poll_timeout(self, due: float | None, now: float) -> float:
        if self._refused:
            return _RETRY_SECONDS
        if due is None or not self._has_free_client():
            return _IDLE_SECONDS
        return max(0.0, due - now)

    def _send(self, exchange: _Exchange) -> None:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(0)
        try:
            connection.connect(self._path)
            connection.sendall(self._make_request(exchange.index))
        except BlockingIOError:
            connection.close()
            self._refused.append(exchange)
            return
        except OSError:
            connection.close()
            self._finish(exchange)
            return
        exchange.connection = connection
        self._pending[connection.fileno()] = exchange
        self._epoll.register(connection.fileno(), select.EPOLLIN)

    def _receive(self, timeout: float) -> None:
        for descriptor, _ in self._epoll.poll(timeout):
            exchange = self._pending[descriptor]
            assert exchange.connection is not None
            try:
                data = exchange.connection.recv(_RECEIVE_BYTES)
            except OSError:
                data = b""
            if not data:
                del self._pending[descriptor]
                exchange.connection.close()
                self._finish(exchange)
                continue
            if not exchange.size:
                exchange.first_byte = time.monotonic()
                exchange.head = data[:12]
            exchange.size += len(data)

    def _finish(self, exchange: _Exchange) -> None:
        status = int(exchange.head[9:12]) if exchange.head.startswith(b"HTTP/1.") else 0
        self.responses.append(
            Response(status, exchange.due, exchange.first_byte, time.monotonic(), exchange.size)
        )
