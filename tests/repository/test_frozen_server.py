"""A server that is stopped in its tracks costs a request a bounded time."""

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
    """Run a server that only this test disturbs."""
    with private_postgres(tmp_path / "own", durable=False) as server:
        yield server


def processes(server: PrivatePostgres) -> list[int]:
    """Name the server's processes, its connections' included."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text("ascii")
    return [server.pid or 0, *map(int, children.split())]


def test_a_frozen_server_is_given_up_in_time_and_used_again_when_it_goes_on(
    server: PrivatePostgres,
) -> None:
    limits = Limits(statement_timeout=STATEMENT_SECONDS, pool_timeout=1, connect_timeout=1)
    database = Database(server.url, limits)
    assert ask(database) == 1
    frozen = processes(server)
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    begun = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        ask(database)
    assert time.monotonic() - begun < 5
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    assert ask(database) == 1
    database.close()


def ask(database: Database) -> object:
    with database.transaction() as conn:
        row = conn.execute("SELECT 1").fetchone()
    return row and row[0]
