"""Close connections without a wait for their clients; gunicorn waits up to two seconds for each.

If bytes arrive at a closed socket, the kernel resets the connection, and its client may lose the
answer. So a connection whose client may still send is closed later, by a thread.
"""

import selectors
import socket
import threading
import time
from queue import SimpleQueue
from typing import Any
from weakref import WeakSet

_SECONDS = 10
_MAX_CONNECTIONS = 100
_SELECT_SECONDS = 0.1
_PART_BYTES = 65_536

# Connections from which all of the request was read.
_complete: WeakSet[socket.socket] = WeakSet()
_waiting: SimpleQueue[socket.socket] = SimpleQueue()
_free = threading.Semaphore(_MAX_CONNECTIONS)
_thread_lock = threading.Lock()
_threads: list[threading.Thread] = []


def record_end(request: Any) -> None:
    """Record whether all of gunicorn's request was read from its connection."""
    connection = request.unreader.sock
    # A chunked body has no length.
    if getattr(request.body.reader, "length", None) == 0:
        _complete.add(connection)
    else:
        _complete.discard(connection)


def close(connection: socket.socket, **_: Any) -> None:
    """Close a connection after its answer, now or soon, but return at once."""
    try:
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(0)
        is_complete = connection.recv(1) == b""
    except BlockingIOError:
        is_complete = connection in _complete
    except OSError:
        is_complete = True
    if is_complete or not _free.acquire(blocking=False):
        connection.close()
        return
    # gunicorn may close its own object once more.
    _waiting.put(socket.socket(fileno=connection.detach()))
    with _thread_lock:
        if not _threads:
            _threads.append(threading.Thread(target=_close_waiting, daemon=True))
            _threads[0].start()


def _close_waiting() -> None:
    """Read what clients send, until they close or have had their time."""
    with selectors.DefaultSelector() as selector:
        while True:
            while not (_waiting.empty() and selector.get_map()):
                selector.register(_waiting.get(), selectors.EVENT_READ, time.monotonic() + _SECONDS)
            ready = {key.fd for key, _ in selector.select(_SELECT_SECONDS)}
            for key in list(selector.get_map().values()):
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                is_open = time.monotonic() < key.data
                if is_open and key.fd in ready:
                    try:
                        is_open = connection.recv(_PART_BYTES) != b""
                    except BlockingIOError:
                        continue
                    except OSError:
                        is_open = False
                if not is_open:
                    selector.unregister(connection)
                    connection.close()
                    _free.release()
