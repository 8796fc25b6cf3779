import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

from ccapi.db.pool import Connection, Database, Limits
from ccapi.embedded import PrivatePostgres
from ccapi.errors import DatabaseUnavailable
from tests.client import Client, at_once

LIMITS = Limits(pool_size=2, pool_timeout=0.3, statement_timeout=0.3, lock_timeout=0.2)


@pytest.fixture
def small_pool(postgres: PrivatePostgres, database: Database) -> Iterator[Database]:
    """The test database through a pool of two connections with short timeouts."""
    assert database
    pool = Database(postgres.url, LIMITS)
    yield pool
    pool.close()


def backend_pid(database: Database) -> int:
    with database.connection() as conn:
        return conn.info.backend_pid


def both_backend_pids(database: Database) -> set[int]:
    with database.connection() as first, database.connection() as second:
        return {first.info.backend_pid, second.info.backend_pid}


def count_tags(conn: Connection) -> int:
    row = conn.execute("SELECT count(*) FROM tags").fetchone()
    assert row is not None
    return int(row[0])


def add_tag(conn: Connection, name: str = "x") -> None:
    conn.execute("INSERT INTO tags (type, name) VALUES ('t', %s)", [name])


def test_transaction_is_committed_at_its_end(small_pool: Database) -> None:
    with small_pool.transaction() as conn:
        add_tag(conn)
        with small_pool.connection() as other:
            assert count_tags(other) == 0
    with small_pool.connection() as conn:
        assert count_tags(conn) == 1


def test_transaction_is_rolled_back_after_an_exception(small_pool: Database) -> None:
    def add_and_fail() -> None:
        with small_pool.transaction() as conn:
            add_tag(conn)
            raise KeyError

    with pytest.raises(KeyError):
        add_and_fail()
    with small_pool.connection() as conn:
        assert count_tags(conn) == 0


def test_connection_commits_each_statement(small_pool: Database) -> None:
    with small_pool.connection() as conn:
        add_tag(conn)
        with small_pool.connection() as other:
            assert count_tags(other) == 1


def test_snapshot_does_not_see_later_commits(small_pool: Database, database: Database) -> None:
    with small_pool.snapshot() as conn:
        assert count_tags(conn) == 0
        with database.transaction() as other:
            add_tag(other)
        assert count_tags(conn) == 0


def test_snapshot_is_read_only_but_its_connection_is_reset(small_pool: Database) -> None:
    with pytest.raises(DatabaseUnavailable, match="read-only"), small_pool.snapshot() as conn:
        add_tag(conn)
    with small_pool.transaction() as first, small_pool.transaction() as second:
        for conn in (first, second):
            add_tag(conn, str(conn.info.backend_pid))
            row = conn.execute("SHOW transaction_isolation").fetchone()
            assert row == ("read committed",)


def test_connections_are_reused(small_pool: Database) -> None:
    assert both_backend_pids(small_pool) == both_backend_pids(small_pool)


def test_closed_pool_reopens_on_use(small_pool: Database) -> None:
    before = backend_pid(small_pool)
    small_pool.close()
    assert backend_pid(small_pool) != before


def test_concurrent_first_uses_open_one_pool(small_pool: Database) -> None:
    assert len(set(at_once([partial(backend_pid, small_pool)] * 8))) <= 2


def test_forked_process_opens_its_own_pool(small_pool: Database) -> None:
    parent_pids = both_backend_pids(small_pool)
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            output.write(b"%d %d" % tuple(both_backend_pids(small_pool)))
            output.flush()
            os._exit(0)
        os.waitpid(child, 0)
        output.seek(0)
        child_pids = set(map(int, output.read().split()))
    assert len(child_pids) == 2
    assert child_pids.isdisjoint(parent_pids)
    assert both_backend_pids(small_pool) == parent_pids


def test_requests_succeed_after_connections_are_lost(reader: Client, database: Database) -> None:
    def hold() -> int:
        with database.connection() as conn:
            time.sleep(0.05)
            return conn.info.backend_pid

    pids = list(set(at_once([hold] * 4)))
    assert len(pids) > 1
    with database.session() as conn:
        conn.execute("SELECT pg_terminate_backend(pid, 5000) FROM unnest(%s) AS pid", [pids])
    start = time.monotonic()
    for _ in range(6):
        assert reader.list() == []
    assert time.monotonic() - start < 1
    assert set(at_once([hold] * 4)).isdisjoint(pids)


@pytest.mark.slow
def test_database_is_usable_after_a_server_restart(
    postgres: PrivatePostgres, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("server")
    directory.chmod(0o755)
    server = PrivatePostgres(directory, postgres.installation, durable=False)
    database = Database(server.url, LIMITS)
    with server:
        before = backend_pid(database)
    start = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        backend_pid(database)
    assert time.monotonic() - start < 2
    with server:
        assert backend_pid(database) != before
        database.close()


def exhaust_pool(database: Database) -> None:
    with database.connection(), database.connection(), database.connection():
        pass


def exceed_statement_timeout(database: Database) -> None:
    with database.connection() as conn:
        conn.execute("SELECT pg_sleep(5)")


def exceed_lock_timeout(database: Database) -> None:
    with database.transaction() as conn, database.transaction() as other:
        conn.execute("LOCK TABLE tags")
        count_tags(other)


def lose_connection(database: Database) -> None:
    with database.transaction() as conn:
        conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")


def lose_connection_before_commit(database: Database) -> None:
    with database.transaction() as conn, database.connection() as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [conn.info.backend_pid])


def cause_deadlock(database: Database) -> None:
    with database.session() as conn, database.session() as other:
        conn.execute("SET deadlock_timeout = '10ms'")
        for one, key in ((conn, 1), (other, 2)):
            one.execute("SELECT pg_advisory_lock(%s)", [key])
        thread = threading.Thread(target=other.execute, args=["SELECT pg_advisory_lock(1)"])
        thread.start()
        time.sleep(0.05)
        try:
            conn.execute("SELECT pg_advisory_lock(2)")
        finally:
            conn.execute("SELECT pg_advisory_unlock_all()")
            thread.join()


@pytest.mark.parametrize(
    ("cause_error", "reason"),
    [
        (exhaust_pool, "couldn't get a connection"),
        (exceed_statement_timeout, "statement timeout"),
        (exceed_lock_timeout, "lock timeout"),
        (lose_connection, "terminating connection"),
        (lose_connection_before_commit, "terminat"),
        (cause_deadlock, "deadlock"),
    ],
)
def test_operational_errors_are_database_unavailable(
    small_pool: Database, cause_error: Callable[[Database], None], reason: str
) -> None:
    start = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match=reason) as raised:
        cause_error(small_pool)
    assert "\n" not in str(raised.value)
    assert time.monotonic() - start < 3
    assert backend_pid(small_pool)


@pytest.mark.slow
@pytest.mark.parametrize("use", ["connection", "transaction", "snapshot", "session"])
@pytest.mark.parametrize(
    "url", ["postgresql:///ccapi?host=/nowhere", "postgresql://127.0.0.1:1/ccapi"]
)
def test_unreachable_server_is_database_unavailable(url: str, use: str) -> None:
    database = Database(url, LIMITS)
    with pytest.raises(DatabaseUnavailable), getattr(database, use)():
        pass
    database.close()


def test_unknown_database_is_database_unavailable(postgres: PrivatePostgres) -> None:
    database = Database(postgres.database_url("nowhere"), LIMITS)
    with pytest.raises(DatabaseUnavailable), database.connection():
        pass
    database.close()


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("SELEC", psycopg.errors.SyntaxError),
        ("SELECT 1/0", psycopg.errors.DivisionByZero),
        ("INSERT INTO tags (type) VALUES ('x')", psycopg.errors.NotNullViolation),
    ],
    ids=["syntax", "division", "constraint"],
)
def test_programming_errors_are_not_translated(
    small_pool: Database, statement: str, error: type[psycopg.Error]
) -> None:
    with pytest.raises(error), small_pool.transaction() as conn:
        conn.execute(statement.encode())


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("statement_timeout", "300ms"),
        ("lock_timeout", "200ms"),
        ("jit", "off"),
        ("application_name", "ccapi"),
        ("client_encoding", "UTF8"),
    ],
)
def test_pooled_connections_have_session_settings(
    small_pool: Database, setting: str, value: str
) -> None:
    with small_pool.connection() as first, small_pool.connection() as second:
        for conn in (first, second):
            assert conn.execute("SELECT current_setting(%s)", [setting]).fetchone() == (value,)


def test_session_has_no_timeouts(database: Database) -> None:
    with database.session() as conn:
        for setting in ("statement_timeout", "lock_timeout"):
            assert conn.execute("SELECT current_setting(%s)", [setting]).fetchone() == ("0",)


def test_new_database_opens_no_connection(tmp_path: Path) -> None:
    Database(f"postgresql:///ccapi?host={tmp_path}").close()
