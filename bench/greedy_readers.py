"""Starts beside readers that read slowly, never read, or ask the worst queries."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from statistics import median

from bench import load_generator
from bench.deployed_site import nginx, run_site
from bench.http_requests import JOB_NUMBERS, NUMBER, get, start_job
from bench.load_generator import LoadResult, LoadSpec
from bench.report import Row, spread
from bench.testbed import Instance, Testbed, run_ccapi

LONG_LIST = "/api/jobs/?items-per-page=9999999&with-metadata=true"
_YEAR = "1-31000000"
_WORST_QUERIES = (
    "/api/jobs/?items-per-page=9999999",
    f"/api/jobs/stats/?range={_YEAR}&group-by=user&step=86400",
    "/api/jobs/?items-per-page=1&total=true",
    "/api/jobs/?items-per-page=1&duration=1-2",
)
_WORKERS = 4
_NICE = 10  # of the unit ccapi-readers
# More starts than the largest sites have.
_RATE = 50
_ROUNDS, _SECONDS, _CLIENTS = 3, 5, 64
_SLOW_CONNECTIONS, _QUERY_CONNECTIONS = 8, 16
_RECEIVE_BYTES, _RECEIVE_INTERVAL = 4_000, 0.1  # 40 KB/s
_WARM_UP_SECONDS = 1


class SlowReaders:
    """Connections that ask for a long list and read 40 KB/s, or nothing, from entry to exit."""

    def __init__(self, path: Path, token: str, *, connections: int, reads: bool) -> None:
        self._path = path
        self._request = get(LONG_LIST, token).replace(NUMBER, "0").encode()
        self._connections = [self._open() for _ in range(connections)]
        self._reads = reads
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> "SlowReaders":
        """Begin to read."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self._end.set()
        self._thread.join()
        for connection in self._connections:
            connection.close()

    def _open(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        connection.connect(str(self._path))
        connection.sendall(self._request)
        connection.settimeout(0)
        return connection

    def _read(self) -> None:
        """Read a little from each connection; open it again when the server has closed it."""
        while not self._end.wait(_RECEIVE_INTERVAL):
            for number, connection in enumerate(self._connections if self._reads else ()):
                try:
                    is_open = connection.recv(_RECEIVE_BYTES) != b""
                except BlockingIOError:
                    continue
                except OSError:
                    is_open = False
                if not is_open:
                    connection.close()
                    self._connections[number] = self._open()


@contextmanager
def worst_queries(path: Path, token: str, seconds: float) -> Iterator[None]:
    """Send the worst queries again and again, in processes of their own."""
    clients = _QUERY_CONNECTIONS // len(_WORST_QUERIES)
    loads = [
        load_generator.start(
            LoadSpec(socket=str(path), request=get(query, token), clients=clients, seconds=seconds)
        )
        for query in _WORST_QUERIES
    ]
    yield
    for load in loads:
        load_generator.finish(load)


def starts_beside_readers(testbed: Testbed) -> Iterator[Row]:
    """Compare starts beside readers with undisturbed ones, with two pools, and with one."""
    if nginx() is None:
        print("nginx is not installed; greedy readers are not measured")
        return
    instance = testbed.small
    with run_site(instance.settings, workers=_WORKERS, readers=_WORKERS) as site:
        for pid in (site.readers.pid, *site.readers.workers()):
            os.setpriority(os.PRIO_PROCESS, pid, _NICE)
        yield from _compare("two pools behind nginx", site.socket, instance, 0.9, 1.5)
    path = testbed.directory / "one-pool.sock"
    with run_ccapi(path, instance.settings, workers=_WORKERS) as server:
        yield from _compare("one pool", server.socket, instance, 0.5, 3)


def _compare(
    name: str, path: Path, instance: Instance, min_rate: float, max_latency: float
) -> Iterator[Row]:
    token = instance.reader_token
    readers: dict[str, Callable[[], AbstractContextManager[object]]] = {
        "8 readers at 40 KB/s": lambda: SlowReaders(path, token, connections=8, reads=True),
        "8 readers that never read": lambda: SlowReaders(path, token, connections=8, reads=False),
        "16 of the worst queries": lambda: worst_queries(path, token, _SECONDS + _WARM_UP_SECONDS),
    }
    for kind, run in readers.items():
        alone, beside = [], []
        for _ in range(_ROUNDS):
            alone.append(start_jobs(path, instance, _SECONDS))
            with run():
                time.sleep(_WARM_UP_SECONDS)
                beside.append(start_jobs(path, instance, _SECONDS))
        rates = [median(result.per_second for result in results) for results in (alone, beside)]
        p99s = [median(result.p99 for result in results) for results in (alone, beside)]
        yield Row(
            what=f"{name}: starts beside {kind} / alone",
            measured=rates[1] / rates[0],
            bar=min_rate,
            at_least=True,
            details=f"starts/s: alone {_rates(alone)}, beside {_rates(beside)}",
        )
        yield Row(
            what=f"{name}: p99 of starts beside {kind} / alone",
            measured=p99s[1] / p99s[0],
            bar=max_latency,
            details=f"ms: alone {p99s[0] * 1e3:.1f}, beside {p99s[1] * 1e3:.1f}",
        )


def start_jobs(path: Path, instance: Instance, seconds: float) -> LoadResult:
    """Start more jobs a second than the largest sites have, on schedule."""
    result = load_generator.run(
        LoadSpec(
            socket=str(path),
            request=start_job(instance.admin_token),
            first_number=JOB_NUMBERS.reserve(100_000),
            clients=_CLIENTS,
            rate=_RATE,
            seconds=seconds,
        )
    )
    result.require_status(201)
    return result


def _rates(results: list[LoadResult]) -> str:
    return spread([result.per_second for result in results])
