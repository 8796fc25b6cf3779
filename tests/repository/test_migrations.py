import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from ccapi import config as settings
from ccapi.app import create_app
from ccapi.db import migrations, queries
from ccapi.db.pool import Database, Limits
from ccapi.embedded import PrivatePostgres
from ccapi.errors import DatabaseUnavailable, StartupError
from ccapi.model.job import NewJob
from ccapi.repository import jobs
from tests.client import at_once

NEW_JOB: dict[str, Any] = {
    "user_name": "u", "cluster": "a", "start_time": 1, "num_nodes": 1,
    "resources": [{"hostname": "f1"}],
}  # fmt: skip
NAMES = [migration.name for migration in migrations.available()]


def create_database(postgres: PrivatePostgres, name: str, options: str = "") -> str:
    with psycopg.connect(postgres.database_url("postgres"), autocommit=True) as conn:
        conn.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
        conn.execute(f"CREATE DATABASE {name} {options}".encode())
    return postgres.database_url(name)


@pytest.fixture
def empty_url(postgres: PrivatePostgres) -> Iterator[str]:
    """The URL of a database without tables."""
    yield create_database(postgres, "empty")
    with psycopg.connect(postgres.database_url("postgres"), autocommit=True) as conn:
        conn.execute("DROP DATABASE empty WITH (FORCE)")


def migrate(url: str) -> list[str]:
    return [migration.name for migration in migrations.migrate(Database(url))]


def relations(url: str) -> set[str]:
    with psycopg.connect(url) as conn:
        rows = conn.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        )
        return {name for (name,) in rows}  # fmt: skip


def dump(postgres: PrivatePostgres, url: str) -> str:
    """Return a database's schema as SQL, without comments and the random keys of a dump."""
    program = postgres.installation.bin_dir / "pg_dump"
    command = [str(program), "--schema-only", "--no-owner", f"--dbname={url}"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return "\n".join(
        line for line in text.splitlines() if line and not re.match(r"--|\\(un)?restrict", line)
    )


def test_empty_database_gets_all_migrations_in_order(empty_url: str) -> None:
    assert migrate(empty_url) == NAMES
    migrations.require_current(Database(empty_url))


def test_current_database_is_not_changed(empty_url: str) -> None:
    migrate(empty_url)
    assert migrate(empty_url) == []


def test_migrations_are_numbered_without_gaps() -> None:
    files = sorted((queries.sql_directory() / "migrations").glob("*.sql"))
    assert [file.name[:5] for file in files] == [f"{n:04}_" for n in range(1, len(files) + 1)]
    assert [migration.version for migration in migrations.available()] == [
        *range(1, len(files) + 1)
    ]


def test_schema_sql_equals_the_migrated_schema(postgres: PrivatePostgres, empty_url: str) -> None:
    migrate(empty_url)
    migrated = dump(postgres, empty_url)
    url = create_database(postgres, "read")
    with psycopg.connect(url) as conn:
        conn.execute((queries.sql_directory() / "schema.sql").read_bytes())
    assert dump(postgres, url).splitlines() == migrated.splitlines()
    assert migrated.count("CREATE TABLE") == 20


def migration(version: int, sql: str) -> migrations.Migration:
    return migrations.Migration(version, f"{version:04}_test", sql)


@pytest.fixture
def concurrent_index(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a migrated database; the next migration cannot run in a transaction."""
    migrate(empty_url)
    sql = """-- no transaction
DROP INDEX CONCURRENTLY IF EXISTS jobs_by_smt;
CREATE INDEX CONCURRENTLY jobs_by_smt
    ON jobs (smt);
"""
    available = [*migrations.available(), migration(len(NAMES) + 1, sql)]
    monkeypatch.setattr(migrations, "available", lambda: available)
    return empty_url


def test_migration_without_transaction_creates_an_index(concurrent_index: str) -> None:
    assert len(migrate(concurrent_index)) == 1
    assert "jobs_by_smt" in relations(concurrent_index)
    assert migrate(concurrent_index) == []


def test_migration_without_transaction_is_repeatable(concurrent_index: str) -> None:
    """A failed CREATE INDEX CONCURRENTLY leaves an invalid index in the database."""
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


def test_indexed_text_has_collation_c(postgres: PrivatePostgres, empty_url: str) -> None:
    """An upgrade of the system's locales then cannot corrupt an index."""
    migrate(empty_url)
    with psycopg.connect(empty_url) as conn:
        rows = conn.execute("""
            SELECT c.relname, l.collname
            FROM pg_index AS i
            JOIN pg_class AS c ON c.oid = i.indexrelid
            JOIN pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = 'public'
            CROSS JOIN LATERAL unnest(i.indcollation) AS indexed (collation_oid)
            JOIN pg_collation AS l ON l.oid = indexed.collation_oid
            """).fetchall()
    assert len(rows) > 10
    assert {name for name, collation in rows if collation != "C"} == set()


def test_concurrent_threads_migrate_once(empty_url: str) -> None:
    results = at_once([partial(migrate, empty_url)] * 5)
    assert sorted(results) == [[]] * 4 + [NAMES]


@pytest.mark.slow
def test_concurrent_processes_migrate_once(empty_url: str) -> None:
    program = (
        "import sys; from ccapi.db import pool, migrations;"
        "print(len(migrations.migrate(pool.Database(sys.argv[1]))))"
    )
    command = [sys.executable, "-c", program, empty_url]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert sorted(process.communicate()[0].strip() for process in processes) == sorted(
        ["0", "0", str(len(NAMES))]
    )


def wait_until_blocked(conn: psycopg.Connection) -> int:
    """Wait until a backend waits for a lock, and return its process id."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        row = conn.execute("SELECT pid FROM pg_locks WHERE NOT granted").fetchone()
        if row is not None:
            return int(row[0])
        time.sleep(0.01)
    raise AssertionError("no backend waits for a lock")


@pytest.mark.parametrize("killed", ["command", "session"])
def test_crash_in_a_migration_leaves_no_table_and_no_lock(empty_url: str, killed: str) -> None:
    """The migration waits for another transaction that creates one of its tables."""
    with (
        psycopg.connect(empty_url) as other,
        psycopg.connect(empty_url, autocommit=True) as observer,
    ):
        other.execute("CREATE TABLE tokens ()")
        child = os.fork()
        if child == 0:
            try:
                migrate(empty_url)
            finally:
                os._exit(1)
        pid = wait_until_blocked(observer)
        if killed == "command":
            os.kill(child, signal.SIGKILL)
        else:
            observer.execute("SELECT pg_terminate_backend(%s)", [pid])
        os.waitpid(child, 0)
        other.rollback()
        find_backend = partial(
            observer.execute, "SELECT FROM pg_stat_activity WHERE pid = %s", [pid]
        )
        deadline = time.monotonic() + 10
        while find_backend().rowcount and time.monotonic() < deadline:
            time.sleep(0.01)
    assert relations(empty_url) == {"schema_migrations", "schema_migrations_pkey"}
    assert migrate(empty_url) == NAMES


@pytest.fixture
def altered(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a migrated database; the next migration needs the whole table of jobs."""
    migrate(empty_url)
    next_one = migration(len(NAMES) + 1, "ALTER TABLE jobs ADD COLUMN extra integer")
    available = [*migrations.available(), next_one]
    monkeypatch.setattr(migrations, "available", lambda: available)
    monkeypatch.setattr(migrations, "_TABLE_LOCK_PAUSE_SECONDS", 0.2)
    return empty_url


@pytest.mark.slow
def test_starts_go_on_while_a_migration_waits_for_a_long_list(altered: str) -> None:
    limits = Limits(lock_timeout=30, statement_timeout=60)
    service = Database(altered, limits)
    with psycopg.connect(altered) as reader, ThreadPoolExecutor(1) as pool:
        reader.execute("SELECT count(*) FROM jobs")
        migrating = pool.submit(migrate, altered)
        for number in range(1, 20):
            with service.connection() as conn:
                jobs.insert(conn, NewJob(**NEW_JOB, job_id=number), 0)
            time.sleep(0.1)
        assert not migrating.done()
        reader.rollback()
        assert len(migrating.result(60)) == 1
    service.close()


@pytest.mark.slow
def test_a_table_that_stays_locked_ends_a_migration_in_one_line(
    altered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "_TABLE_LOCK_MAX_SECONDS", 0)
    with psycopg.connect(altered) as reader:
        reader.execute("SELECT count(*) FROM jobs")
        with pytest.raises(StartupError, match="end it, and run it again"):
            migrate(altered)
    assert len(migrate(altered)) == 1


def test_failed_migration_is_rolled_back(empty_url: str) -> None:
    with psycopg.connect(empty_url) as conn:
        conn.execute("CREATE TABLE tokens ()")
    with pytest.raises(psycopg.errors.DuplicateTable):
        migrate(empty_url)
    assert relations(empty_url) == {"schema_migrations", "schema_migrations_pkey", "tokens"}
    with psycopg.connect(empty_url) as conn:
        conn.execute("DROP TABLE tokens")
    assert migrate(empty_url) == NAMES


def start_service(config: settings.Config, url: str) -> None:
    create_app(replace(config, database=replace(config.database, url=url)))


def test_service_does_not_start_with_a_pending_migration(
    config: settings.Config, empty_url: str
) -> None:
    with pytest.raises(StartupError, match=rf"missing: {NAMES[0]}; run `ccapi migrate` first"):
        start_service(config, empty_url)
    migrate(empty_url)
    start_service(config, empty_url)


def test_database_of_a_newer_version_is_refused(config: settings.Config, empty_url: str) -> None:
    migrate(empty_url)
    with psycopg.connect(empty_url) as conn:
        conn.execute("INSERT INTO schema_migrations VALUES (9999, '9999_add_more', '')")
    for operation in (partial(start_service, config), migrate):
        with pytest.raises(StartupError, match=r"9999_add_more; upgrade ccapi"):
            operation(empty_url)


def test_edited_migration_is_refused(config: settings.Config, empty_url: str) -> None:
    migrate(empty_url)
    with psycopg.connect(empty_url) as conn:
        conn.execute("UPDATE schema_migrations SET checksum = 'of other content'")
    for operation in (partial(start_service, config), migrate):
        with pytest.raises(StartupError, match=rf"{NAMES[0]} differs .* restore sql/migrations"):
            operation(empty_url)


def test_old_server_is_refused(
    config: settings.Config, empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "MIN_SERVER_VERSION", 99)
    for operation in (partial(start_service, config), migrate):
        with pytest.raises(StartupError, match=r"PostgreSQL 1\d.* is too old: ccapi needs 99"):
            operation(empty_url)
    assert relations(empty_url) == set()


def test_encoding_other_than_utf8_is_refused(
    config: settings.Config, postgres: PrivatePostgres
) -> None:
    options = "TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C' LOCALE_PROVIDER libc"
    url = create_database(postgres, "ascii", options)
    for operation in (partial(start_service, config), migrate):
        with pytest.raises(StartupError, match=r"encoding is SQL_ASCII: .*--encoding=UTF8"):
            operation(url)
    assert relations(url) == set()


def test_missing_database_is_unavailable(postgres: PrivatePostgres) -> None:
    with pytest.raises(DatabaseUnavailable, match="nowhere"):
        migrate(postgres.database_url("nowhere"))


def test_empty_directory_has_no_migrations(tmp_path: Path) -> None:
    assert migrations.available(tmp_path) == []
