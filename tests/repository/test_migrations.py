import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from ccapi import config as settings
from ccapi.app import create_app
from ccapi.db import migrations, queries
from ccapi.db.pool import Database
from ccapi.embedded import PrivatePostgres
from ccapi.errors import DatabaseUnavailable, StartupError
from tests.client import at_once

NAMES = [migration.name for migration in migrations.available()]


def make_database(postgres: PrivatePostgres, name: str, options: str = "") -> str:
    with psycopg.connect(postgres.database_url("postgres"), autocommit=True) as conn:
        conn.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
        conn.execute(f"CREATE DATABASE {name} {options}".encode())
    return postgres.database_url(name)


@pytest.fixture
def empty(postgres: PrivatePostgres) -> Iterator[str]:
    """The address of a database without tables."""
    yield make_database(postgres, "empty")
    with psycopg.connect(postgres.database_url("postgres"), autocommit=True) as conn:
        conn.execute("DROP DATABASE empty WITH (FORCE)")


def migrate(url: str) -> list[str]:
    return [migration.name for migration in migrations.migrate(Database(url))]


def relations(url: str) -> set[str]:
    with psycopg.connect(url) as conn:
        found = conn.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        )
        return {name for (name,) in found}  # fmt: skip


def dump(postgres: PrivatePostgres, url: str) -> str:
    """Write a database's schema as SQL, without comments and what is new in every dump."""
    program = postgres.installation.bin_dir / "pg_dump"
    command = [str(program), "--schema-only", "--no-owner", f"--dbname={url}"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return "\n".join(
        line for line in text.splitlines() if line and not re.match(r"--|\\(un)?restrict", line)
    )


def test_an_empty_database_gets_all_migrations_in_order(empty: str) -> None:
    assert migrate(empty) == NAMES
    migrations.require_current(Database(empty))


def test_a_current_database_is_left_alone(empty: str) -> None:
    migrate(empty)
    assert migrate(empty) == []


def test_the_migrations_are_numbered_without_a_gap() -> None:
    files = sorted((queries.sql_directory() / "migrations").glob("*.sql"))
    assert [file.name[:5] for file in files] == [f"{n:04}_" for n in range(1, len(files) + 1)]
    assert [migration.version for migration in migrations.available()] == [
        *range(1, len(files) + 1)
    ]


def test_schema_sql_is_what_the_migrations_make(postgres: PrivatePostgres, empty: str) -> None:
    migrate(empty)
    migrated = dump(postgres, empty)
    url = make_database(postgres, "read")
    with psycopg.connect(url) as conn:
        conn.execute((queries.sql_directory() / "schema.sql").read_bytes())
    assert dump(postgres, url).splitlines() == migrated.splitlines()
    assert migrated.count("CREATE TABLE") == 8


def migration(version: int, sql: str) -> migrations.Migration:
    return migrations.Migration(version, f"{version:04}_test", sql)


@pytest.fixture
def concurrent_index(empty: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A migrated database, and a next migration that cannot run in a transaction."""
    migrate(empty)
    sql = """-- no transaction
DROP INDEX CONCURRENTLY IF EXISTS jobs_by_smt;
CREATE INDEX CONCURRENTLY jobs_by_smt
    ON jobs (smt);
"""
    known = [*migrations.available(), migration(len(NAMES) + 1, sql)]
    monkeypatch.setattr(migrations, "available", lambda: known)
    return empty


def test_migration_without_transaction_creates_index_concurrently(concurrent_index: str) -> None:
    assert len(migrate(concurrent_index)) == 1
    assert "jobs_by_smt" in relations(concurrent_index)
    assert migrate(concurrent_index) == []


def test_migration_without_transaction_runs_again_after_a_failure(concurrent_index: str) -> None:
    """A concurrent index that failed stays in the database and is not valid."""
    with psycopg.connect(concurrent_index, autocommit=True) as conn:
        job = (
            "INSERT INTO jobs (job_id, start_time, num_nodes, exclusive, monitoring_status, "
            "cluster, sub_cluster, user_name, project, resources) VALUES "
            "(%s, 1, 1, 1, 1, 'a', '', 'u', '', '[]')"
        )
        conn.execute(job.encode(), [1])
        conn.execute(job.encode(), [2])
        with pytest.raises(psycopg.errors.UniqueViolation):
            conn.execute("CREATE UNIQUE INDEX CONCURRENTLY jobs_by_smt ON jobs (start_time)")
    assert len(migrate(concurrent_index)) == 1
    with psycopg.connect(concurrent_index) as conn:
        row = conn.execute(
            "SELECT indisvalid FROM pg_index WHERE indexrelid = 'jobs_by_smt'::regclass"
        ).fetchone()
    assert row == (True,)


def test_no_locale_of_the_database_orders_an_index(postgres: PrivatePostgres, empty: str) -> None:
    """All indexed text has COLLATE "C", so an upgrade of the system's locales hurts no index."""
    migrate(empty)
    with psycopg.connect(empty) as conn:
        rows = conn.execute("""
            SELECT c.relname, l.collname
            FROM pg_index AS i
            JOIN pg_class AS c ON c.oid = i.indexrelid
            JOIN pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = 'public'
            CROSS JOIN LATERAL unnest(i.indcollation) AS used (oid)
            JOIN pg_collation AS l ON l.oid = used.oid
            """).fetchall()
    assert len(rows) > 10
    assert {name for name, collation in rows if collation != "C"} == set()


def test_of_several_at_once_one_does_the_work(empty: str) -> None:
    results = at_once([partial(migrate, empty)] * 5)
    assert sorted(results) == [[]] * 4 + [NAMES]


def test_of_several_processes_at_once_one_does_the_work(empty: str) -> None:
    program = (
        "import sys; from ccapi.db import pool, migrations;"
        "print(len(migrations.migrate(pool.Database(sys.argv[1]))))"
    )
    command = [sys.executable, "-c", program, empty]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert sorted(process.communicate()[0].strip() for process in started) == sorted(
        ["0", "0", str(len(NAMES))]
    )


def wait_until_blocked(conn: psycopg.Connection) -> int:
    """Return the server process that waits for a lock, once there is one."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        row = conn.execute("SELECT pid FROM pg_locks WHERE NOT granted").fetchone()
        if row is not None:
            return int(row[0])
        time.sleep(0.01)
    raise AssertionError("nobody waits")


@pytest.mark.parametrize("dies", ["the command", "its session"])
def test_a_crash_in_the_middle_leaves_nothing_half_and_no_lock(empty: str, dies: str) -> None:
    """A table that another transaction is making keeps the migration from going on."""
    with psycopg.connect(empty) as other, psycopg.connect(empty, autocommit=True) as watch:
        other.execute("CREATE TABLE tokens ()")
        child = os.fork()
        if child == 0:
            try:
                migrate(empty)
            finally:
                os._exit(1)
        waiting = wait_until_blocked(watch)
        if dies == "the command":
            os.kill(child, signal.SIGKILL)
        else:
            watch.execute("SELECT pg_terminate_backend(%s)", [waiting])
        os.waitpid(child, 0)
        other.rollback()
        left = partial(watch.execute, "SELECT FROM pg_stat_activity WHERE pid = %s", [waiting])
        deadline = time.monotonic() + 10
        while left().rowcount and time.monotonic() < deadline:
            time.sleep(0.01)
    assert relations(empty) == {"schema_migrations", "schema_migrations_pkey"}
    assert migrate(empty) == NAMES


def test_a_migration_that_fails_leaves_nothing_half(empty: str) -> None:
    with psycopg.connect(empty) as conn:
        conn.execute("CREATE TABLE tokens ()")
    with pytest.raises(psycopg.errors.DuplicateTable):
        migrate(empty)
    assert relations(empty) == {"schema_migrations", "schema_migrations_pkey", "tokens"}
    with psycopg.connect(empty) as conn:
        conn.execute("DROP TABLE tokens")
    assert migrate(empty) == NAMES


def serve(config: settings.Config, url: str) -> None:
    create_app(replace(config, database=replace(config.database, url=url)))


def test_the_service_does_not_start_with_a_pending_migration(
    config: settings.Config, empty: str
) -> None:
    with pytest.raises(StartupError, match=rf"missing: {NAMES[0]}; run `ccapi migrate` first"):
        serve(config, empty)
    migrate(empty)
    serve(config, empty)


def test_a_database_of_a_newer_version_is_refused(config: settings.Config, empty: str) -> None:
    migrate(empty)
    with psycopg.connect(empty) as conn:
        conn.execute("INSERT INTO schema_migrations VALUES (9999, '9999_add_more', '')")
    for use in (partial(serve, config), migrate):
        with pytest.raises(StartupError, match=r"9999_add_more; upgrade ccapi"):
            use(empty)


def test_an_edited_migration_is_refused(config: settings.Config, empty: str) -> None:
    migrate(empty)
    with psycopg.connect(empty) as conn:
        conn.execute("UPDATE schema_migrations SET checksum = 'of another content'")
    for use in (partial(serve, config), migrate):
        with pytest.raises(StartupError, match=rf"{NAMES[0]} differs .* restore sql/migrations"):
            use(empty)


def test_an_old_server_is_refused(
    config: settings.Config, empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "MIN_SERVER_VERSION", 99)
    for use in (partial(serve, config), migrate):
        with pytest.raises(StartupError, match=r"PostgreSQL 1\d.* is too old: ccapi needs 99"):
            use(empty)
    assert relations(empty) == set()


def test_another_encoding_is_refused(config: settings.Config, postgres: PrivatePostgres) -> None:
    options = "TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C' LOCALE_PROVIDER libc"
    url = make_database(postgres, "ascii", options)
    for use in (partial(serve, config), migrate):
        with pytest.raises(StartupError, match=r"encoding is SQL_ASCII: .*--encoding=UTF8"):
            use(url)
    assert relations(url) == set()


def test_a_database_that_does_not_exist_is_unavailable(postgres: PrivatePostgres) -> None:
    with pytest.raises(DatabaseUnavailable, match="nowhere"):
        migrate(postgres.database_url("nowhere"))


def test_a_directory_without_migrations_has_none(tmp_path: Path) -> None:
    assert migrations.available(tmp_path) == []
