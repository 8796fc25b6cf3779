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
def limited(postgres: PrivatePostgres, database: Database) -> Iterator[Database]:
    """The test database through a pool of two connections that waits for nothing."""
    assert database
    limited = Database(postgres.url, LIMITS)
    yield limited
    limited.close()


def backend(database: Database) -> int:
    with database.connection() as conn:
        return conn.info.backend_pid


def both_backends(database: Database) -> set[int]:
    with database.connection() as first, database.connection() as second:
        return {first.info.backend_pid, second.info.backend_pid}


def count_tags(conn: Connection) -> int:
    row = conn.execute("SELECT count(*) FROM tags").fetchone()
    assert row is not None
    return int(row[0])


def add_tag(conn: Connection, name: str = "x") -> None:
    conn.execute("INSERT INTO tags (type, name) VALUES ('t', %s)", [name])


def test_a_transaction_is_committed_at_its_end(limited: Database) -> None:
    with limited.transaction() as conn:
        add_tag(conn)
        with limited.connection() as other:
            assert count_tags(other) == 0
    with limited.connection() as conn:
        assert count_tags(conn) == 1


def test_a_transaction_that_raises_changes_nothing(limited: Database) -> None:
    def add_and_fail() -> None:
        with limited.transaction() as conn:
            add_tag(conn)
            raise KeyError

    with pytest.raises(KeyError):
        add_and_fail()
    with limited.connection() as conn:
        assert count_tags(conn) == 0


def test_each_statement_is_a_transaction_of_its_own(limited: Database) -> None:
    with limited.connection() as conn:
        add_tag(conn)
        with limited.connection() as other:
            assert count_tags(other) == 1


def test_a_snapshot_shows_one_moment(limited: Database, database: Database) -> None:
    with limited.snapshot() as conn:
        assert count_tags(conn) == 0
        with database.transaction() as other:
            add_tag(other)
        assert count_tags(conn) == 0


def test_a_snapshot_cannot_write_and_its_connection_can_afterwards(limited: Database) -> None:
    with pytest.raises(DatabaseUnavailable, match="read-only"), limited.snapshot() as conn:
        add_tag(conn)
    with limited.transaction() as first, limited.transaction() as second:
        for conn in (first, second):
            add_tag(conn, str(conn.info.backend_pid))
            row = conn.execute("SHOW transaction_isolation").fetchone()
            assert row == ("read committed",)


def test_connections_are_used_again(limited: Database) -> None:
    assert both_backends(limited) == both_backends(limited)


def test_a_closed_pool_opens_again(limited: Database) -> None:
    before = backend(limited)
    limited.close()
    assert backend(limited) != before


def test_a_pool_that_many_threads_open_is_one(limited: Database) -> None:
    assert len(set(at_once([partial(backend, limited)] * 8))) <= 2


def test_a_forked_process_has_a_pool_of_its_own(limited: Database) -> None:
    parents = both_backends(limited)
    with tempfile.TemporaryFile() as told:
        child = os.fork()
        if child == 0:
            told.write(b"%d %d" % tuple(both_backends(limited)))
            told.flush()
            os._exit(0)
        os.waitpid(child, 0)
        told.seek(0)
        childs = set(map(int, told.read().split()))
    assert len(childs) == 2
    assert childs.isdisjoint(parents)
    assert both_backends(limited) == parents


def test_a_lost_connection_is_no_error_for_the_next_request(
    reader: Client, database: Database
) -> None:
    def hold() -> int:
        with database.connection() as conn:
            time.sleep(0.05)
            return conn.info.backend_pid

    pooled = list(set(at_once([hold] * 4)))
    assert len(pooled) > 1
    with database.session() as conn:
        conn.execute("SELECT pg_terminate_backend(pid, 5000) FROM unnest(%s) AS pid", [pooled])
    begun = time.monotonic()
    for _ in range(6):
        assert reader.list() == []
    assert time.monotonic() - begun < 1
    assert set(at_once([hold] * 4)).isdisjoint(pooled)


def test_a_database_that_is_down_is_back_as_soon_as_it_is_up(
    postgres: PrivatePostgres, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("server")
    directory.chmod(0o755)
    server = PrivatePostgres(directory, postgres.installation, durable=False)
    database = Database(server.url, LIMITS)
    with server:
        before = backend(database)
    begun = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        backend(database)
    assert time.monotonic() - begun < 2
    with server:
        assert backend(database) != before
        database.close()


def occupied(database: Database) -> None:
    with database.connection(), database.connection(), database.connection():
        pass


def slow(database: Database) -> None:
    with database.connection() as conn:
        conn.execute("SELECT pg_sleep(5)")


def locked(database: Database) -> None:
    with database.transaction() as conn, database.transaction() as other:
        conn.execute("LOCK TABLE tags")
        count_tags(other)


def cut_off(database: Database) -> None:
    with database.transaction() as conn:
        conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")


def cut_off_before_commit(database: Database) -> None:
    with database.transaction() as conn, database.connection() as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [conn.info.backend_pid])


def deadlocked(database: Database) -> None:
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
    ("fails", "reason"),
    [
        (occupied, "couldn't get a connection"),
        (slow, "statement timeout"),
        (locked, "lock timeout"),
        (cut_off, "terminating connection"),
        (cut_off_before_commit, "terminat"),
        (deadlocked, "deadlock"),
    ],
)
def test_what_is_nobodys_fault_is_an_unavailable_database(
    limited: Database, fails: Callable[[Database], None], reason: str
) -> None:
    begun = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match=reason) as raised:
        fails(limited)
    assert "\n" not in str(raised.value)
    assert time.monotonic() - begun < 3
    assert backend(limited)


@pytest.mark.parametrize("use", ["connection", "transaction", "snapshot", "session"])
@pytest.mark.parametrize(
    "url", ["postgresql:///ccapi?host=/nowhere", "postgresql://127.0.0.1:1/ccapi"]
)
def test_a_server_that_is_not_there_is_an_unavailable_database(url: str, use: str) -> None:
    database = Database(url, LIMITS)
    with pytest.raises(DatabaseUnavailable), getattr(database, use)():
        pass
    database.close()


def test_an_unknown_database_is_an_unavailable_one(postgres: PrivatePostgres) -> None:
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
def test_a_bug_of_ours_stays_one(
    limited: Database, statement: str, error: type[psycopg.Error]
) -> None:
    with pytest.raises(error), limited.transaction() as conn:
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
def test_every_pooled_connection_is_set_up(limited: Database, setting: str, value: str) -> None:
    with limited.connection() as first, limited.connection() as second:
        for conn in (first, second):
            assert conn.execute("SELECT current_setting(%s)", [setting]).fetchone() == (value,)


def test_a_command_has_no_time_limit(database: Database) -> None:
    with database.session() as conn:
        for setting in ("statement_timeout", "lock_timeout"):
            assert conn.execute("SELECT current_setting(%s)", [setting]).fetchone() == ("0",)


def test_nothing_is_opened_before_it_is_needed(tmp_path: Path) -> None:
    Database(f"postgresql:///ccapi?host={tmp_path}").close()
