"""Start gunicorn on a free port."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Service:
    """A running gunicorn; `url` is its jobs' address."""

    pid: int
    port: int

    @property
    def url(self) -> str:
        """Return the address of the jobs."""
        return f"http://127.0.0.1:{self.port}/api/jobs"

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text("ascii")
        return [int(pid) for pid in children.split()]


def clean_environment() -> dict[str, str]:
    """Return the environment of this process without settings of ccapi."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CCAPI_")}


def free_port() -> int:
    """Return a port on which no program listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(url: str, seconds: float = 30, *, ready: bool = False) -> None:
    """Wait for an answer from a URL; with `ready`, for one without an error."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=seconds):
                return
        except OSError as error:
            if isinstance(error, urllib.error.HTTPError) and not ready:
                return
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@contextmanager
def gunicorn(settings: Mapping[str, str], directory: Path, workers: int = 4) -> Iterator[Service]:
    """Serve with gunicorn as a site does, with settings from the environment."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--workers", str(workers)]
    command += ["--config", "python:ccapi.gunicorn_hooks", "--bind", f"127.0.0.1:{port}"]
    command += ["ccapi.app:application()"]
    log = directory / "gunicorn.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env={**clean_environment(), **settings},
            stdout=output,
            stderr=output,
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/api/openapi.json")
        yield Service(process.pid, port)
    finally:
        process.terminate()
        process.wait(30)
