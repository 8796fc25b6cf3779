"""The database is unavailable within a bounded time when its server freezes."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccapi.db.pool import Database, Limits
from ccapi.embedded import PrivatePostgres, private_postgres
from ccapi.errors import DatabaseUnavailable

STATEMENT_SECONDS = 0.5


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PrivatePostgres]:
    """Run a server for this test alone."""
    with private_postgres(tmp_path / "own", durable=False) as server:
        yield server


def server_pids(server: PrivatePostgres) -> list[int]:
    """Return the process ids of a server, backends included."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text("ascii")
    return [server.pid or 0, *map(int, children.split())]


@pytest.mark.slow
def test_frozen_server_times_out_and_is_usable_afterwards(
    server: PrivatePostgres,
) -> None:
    limits = Limits(statement_timeout=STATEMENT_SECONDS, pool_timeout=1, connect_timeout=1)
    database = Database(server.url, limits)
    assert select_one(database) == 1
    pids = server_pids(server)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        select_one(database)
    assert time.monotonic() - start < 5
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    assert select_one(database) == 1
    database.close()


def select_one(database: Database) -> object:
    with database.transaction() as conn:
        row = conn.execute("SELECT 1").fetchone()
    return row and row[0]
