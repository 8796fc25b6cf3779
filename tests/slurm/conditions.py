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
    """Put file systems of 64 KiB over the folders that hooks write into."""
    bench.configure(CCAPI_SPOOL_RESERVE_MIB=0)
    for folder in ("new", "tmp"):
        command = ["mount", "-t", "tmpfs", "-o", f"size=64k,mode=0777,{options}", "none"]
        done = subprocess.run([*command, str(bench.site.spool / folder)], check=False)
        if done.returncode:
            pytest.skip("this machine lets nobody mount a file system")
    try:
        yield
    finally:
        for folder in ("new", "tmp"):
            subprocess.run(["umount", str(bench.site.spool / folder)], check=True)


@contextlib.contextmanager
def spool_full(bench: Bench) -> Iterator[None]:
    """Leave no byte for an event."""
    with _mounted(bench, "rw"):
        with contextlib.suppress(OSError):
            (bench.site.spool / "tmp" / "ballast").write_bytes(b"x" * 10**6)
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
