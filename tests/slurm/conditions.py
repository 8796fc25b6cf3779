"""What may be wrong with a registry or a spool while Slurm runs jobs."""

import contextlib
import http.server
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from tests.processes import free_port
from tests.slurm.bench import Bench
from tests.slurm.cluster import wait_until

Condition = Callable[[Bench], AbstractContextManager[None]]


@contextlib.contextmanager
def up(bench: Bench) -> Iterator[None]:
    """Let the registry be there."""
    bench.configure()
    yield


@contextlib.contextmanager
def refusing(bench: Bench) -> Iterator[None]:
    """Let nothing listen at the registry's address."""
    bench.configure(CCAPI_URL=f"http://127.0.0.1:{free_port()}/api/jobs")
    yield


@contextlib.contextmanager
def black_holed(bench: Bench) -> Iterator[None]:
    """Let the registry's address take everything and answer nothing."""
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        bench.configure(CCAPI_URL=f"http://127.0.0.1:{hole.getsockname()[1]}/api/jobs")
        yield


def answering(status: int) -> Condition:
    """Let the registry's address answer everything with one status."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    @contextlib.contextmanager
    def condition(bench: Bench) -> Iterator[None]:
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            bench.configure(CCAPI_URL=f"http://127.0.0.1:{server.server_port}/api/jobs")
            yield
            server.shutdown()

    return condition


@contextlib.contextmanager
def _mounted(bench: Bench, options: str) -> Iterator[None]:
    """Put a file system of 64 KiB over the folder that hooks write into."""
    bench.configure()
    place = str(bench.site.spool / "new")
    command = ["mount", "-t", "tmpfs", "-o", f"size=64k,mode=0777,{options}", "none"]
    if subprocess.run([*command, place], check=False).returncode:
        pytest.skip("this machine lets nobody mount a file system")
    try:
        yield
    finally:
        # A job's own hook may be at its file yet.
        wait_until(lambda: not subprocess.call(["umount", place]), 10, lambda: f"{place} is busy")


@contextlib.contextmanager
def spool_full(bench: Bench) -> Iterator[None]:
    """Leave no byte for an event."""
    ballast = bench.site.spool / "new" / "ballast"
    # Unbuffered, as what is left in a buffer would be written once more when the file is closed.
    with _mounted(bench, "rw"), ballast.open("wb", buffering=0) as file:
        ballast.unlink()
        with contextlib.suppress(OSError):
            while file.write(b"x" * 4096):
                pass
        yield


@contextlib.contextmanager
def spool_read_only(bench: Bench) -> Iterator[None]:
    """Let nothing be written into the spool."""
    with _mounted(bench, "ro"):
        yield


CONDITIONS: dict[str, Condition] = {
    "up": up,
    "refusing": refusing,
    "black-holed": black_holed,
    "answering 500": answering(500),
    "answering 401": answering(401),
    "spool full": spool_full,
    "spool read-only": spool_read_only,
}
