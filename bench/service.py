"""gunicorn on a Unix socket, as deployed, and what its workers use."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import driver

_ROOT = Path(__file__).resolve().parent.parent
_READY_SECONDS = 60
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Service:
    """A running gunicorn."""

    socket: Path
    pid: int

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text("ascii")
        return [int(pid) for pid in children.split()]

    def cpu(self) -> float:
        """Return the seconds of processor time that the workers have used so far."""
        return sum(map(_cpu, self.workers()))

    def peak_memory(self) -> int:
        """Return the most resident memory that a worker ever had, in bytes."""
        return max(map(_peak_memory, self.workers()))


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _peak_memory(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


@contextmanager
def gunicorn(
    app: str,
    socket: Path,
    *,
    workers: int,
    config: str = "python:bench.bare",
    settings: Mapping[str, str] | None = None,
) -> Iterator[Service]:
    """Serve a WSGI application until the block ends."""
    command = [sys.executable, "-m", "gunicorn", "--config", config, "--workers", str(workers)]
    command += ["--bind", f"unix:{socket}", "--log-level", "warning"]
    # A deletion of millions is one request.
    command += ["--timeout", "3600", app]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CCAPI_")}
    with socket.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - the command is ours
            command, cwd=_ROOT, env={**kept, **(settings or {})}, stdout=log, stderr=log
        )
    try:
        _await_answer(socket, process)
        yield Service(socket, process.pid)
    finally:
        process.terminate()
        process.wait(_READY_SECONDS)


def _await_answer(socket: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    order = driver.Order(socket=str(socket), request=get("/", ""), count=1)
    while driver.run(order).statuses.get("0"):
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"gunicorn does not answer; see {socket.with_suffix('.log')}")
        time.sleep(0.1)


def get(path: str, token: str) -> str:
    """Write a GET; its number is in a header that nobody reads."""
    return _head("GET", path, token) + f"X-Number: {driver.NUMBER}\r\n\r\n"


def delete(path: str, token: str) -> str:
    """Write a DELETE; its number is in a header that nobody reads."""
    return _head("DELETE", path, token) + f"X-Number: {driver.NUMBER}\r\n\r\n"


def post(path: str, token: str, body: str) -> str:
    """Write a POST of ASCII, as curl sends it."""
    return _head("POST", path, token) + (
        "Content-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    )


def _head(method: str, path: str, token: str) -> str:
    return (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n"
        f"Connection: close\r\nX-Auth-Token: {token}\r\n"
    )
