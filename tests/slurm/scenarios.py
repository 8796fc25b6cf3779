"""Failures of ccapi and of the spool while Slurm runs jobs."""

import contextlib
import http.server
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from tests.processes import free_port
from tests.slurm import events
from tests.slurm.cluster import wait_until
from tests.slurm.connected_slurm import ConnectedSlurm

_BACKLOG = 20_000
Scenario = Callable[[ConnectedSlurm], AbstractContextManager[None]]


@contextlib.contextmanager
def up(connected: ConnectedSlurm) -> Iterator[None]:
    """Leave everything intact."""
    connected.configure()
    yield


@contextlib.contextmanager
def connection_refused(connected: ConnectedSlurm) -> Iterator[None]:
    """Use an address where nothing listens."""
    connected.configure(CCAPI_URL=f"http://127.0.0.1:{free_port()}/api/jobs")
    yield


@contextlib.contextmanager
def black_hole(connected: ConnectedSlurm) -> Iterator[None]:
    """Use an address that accepts connections and never answers."""
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        connected.configure(CCAPI_URL=f"http://127.0.0.1:{hole.getsockname()[1]}/api/jobs")
        yield


@contextlib.contextmanager
def backlog(connected: ConnectedSlurm) -> Iterator[None]:
    """Use an address where nothing listens, while 20,000 events wait."""
    for number in range(1, _BACKLOG + 1):
        # As the uptime in the name of a real event, their times have hundredths.
        when = events.START + number / 100
        events.write(connected.site, "prolog", when, {"SLURM_JOB_ID": str(1_000_000 + number)})
    try:
        with connection_refused(connected):
            yield
    finally:
        for path in (connected.site.spool / "new").glob("1??????-*"):
            path.unlink()


def answer(status: int) -> Scenario:
    """Use an address that answers every request with one status."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    @contextlib.contextmanager
    def scenario(connected: ConnectedSlurm) -> Iterator[None]:
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            connected.configure(CCAPI_URL=f"http://127.0.0.1:{server.server_port}/api/jobs")
            yield
            server.shutdown()

    return scenario


@contextlib.contextmanager
def _mount(connected: ConnectedSlurm, options: str) -> Iterator[None]:
    """Mount a file system of 64 KiB over the folder of the hooks' events."""
    connected.configure()
    folder = str(connected.site.spool / "new")
    command = ["mount", "-t", "tmpfs", "-o", f"size=64k,mode=0777,{options}", "none"]
    if subprocess.run([*command, folder], check=False).returncode:
        pytest.skip("this machine does not allow mounts")
    try:
        yield
    finally:
        # The hook of a job may still have its file open.
        wait_until(lambda: not subprocess.call(["umount", folder]), 10, lambda: f"{folder} is busy")


@contextlib.contextmanager
def spool_full(connected: ConnectedSlurm) -> Iterator[None]:
    """Fill the file system of the spool."""
    ballast = connected.site.spool / "new" / "ballast"
    # Unbuffered: closing a buffered file would try to write the rest of its buffer again.
    with _mount(connected, "rw"), ballast.open("wb", buffering=0) as file:
        ballast.unlink()
        with contextlib.suppress(OSError):
            while file.write(b"x" * 4096):
                pass
        yield


@contextlib.contextmanager
def spool_read_only(connected: ConnectedSlurm) -> Iterator[None]:
    """Make the spool read-only."""
    with _mount(connected, "ro"):
        yield


SCENARIOS: dict[str, Scenario] = {
    "up": up,
    "connection refused": connection_refused,
    "20000 events waiting": backlog,
    "black hole": black_hole,
    "answer 500": answer(500),
    "answer 401": answer(401),
    "spool full": spool_full,
    "spool read-only": spool_read_only,
}
