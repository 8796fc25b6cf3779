"""gunicorn on a Unix socket, and the CPU time and memory of its workers."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import load_generator
from bench.http_requests import get
from bench.load_generator import LoadSpec

_ROOT = Path(__file__).resolve().parent.parent
_READY_TIMEOUT_SECONDS = 60
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server:
    """A running gunicorn."""

    socket: Path
    pid: int

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        return children(self.pid)

    def cpu_seconds(self) -> float:
        """Return the CPU time that the workers have used so far."""
        return sum(map(cpu_seconds, self.workers()))

    def peak_memory(self) -> int:
        """Return the largest peak of resident memory among the workers, in bytes."""
        statuses = [Path(f"/proc/{pid}/status").read_text("ascii") for pid in self.workers()]
        return max(1024 * int(status.split("VmHWM:")[1].split()[0]) for status in statuses)


def children(pid: int) -> list[int]:
    """Return the process ids of a process's children."""
    return [int(pid) for pid in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


@contextmanager
def run_gunicorn(
    app: str,
    socket: Path,
    *,
    workers: int,
    config: str = "python:bench.empty_app",
    settings: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Serve a WSGI application until the block ends.

    `settings` are CCAPI_* environment variables; those of the caller are not inherited.
    """
    command = [sys.executable, "-m", "gunicorn", "--config", config, "--workers", str(workers)]
    command += ["--bind", f"unix:{socket}", "--log-level", "warning"]
    # Deleting millions of jobs is one request.
    command += ["--timeout", "3600", app]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CCAPI_")}
    with socket.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - a fixed command
            command, cwd=_ROOT, env={**inherited, **(settings or {})}, stdout=log, stderr=log
        )
    try:
        _wait_until_ready(socket, process)
        yield Server(socket, process.pid)
    finally:
        process.terminate()
        process.wait(_READY_TIMEOUT_SECONDS)


def _wait_until_ready(socket: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _READY_TIMEOUT_SECONDS
    spec = LoadSpec(socket=str(socket), request=get("/", ""), count=1)
    while load_generator.run(spec).statuses.get("0"):
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"gunicorn does not respond; see {socket.with_suffix('.log')}")
        time.sleep(0.1)
