"""The schema's history: numbered files in sql/migrations/, applied once each, in order."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ccapi.errors import StartupError
from ccapi.db import queries
from ccapi.db.pool import Connection, Database

_SQL = queries.load("migrations")
MIN_SERVER_VERSION = 13
_LOCK_POLL_SECONDS = 0.1


class Migration(NamedTuple):
    """One step of the schema: 0001_create_jobs.sql is version 1."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """Identify the file's content: a released migration is never edited."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def available(directory: Path | None = None) -> list[Migration]:
    """Read the migrations that this version of ccapi brings, in order."""
    files = sorted((directory or queries.sql_directory() / "migrations").glob("[0-9]*.sql"))
    return [Migration(int(file.name[:4]), file.stem, file.read_text("utf-8")) for file in files]


def pending(conn: Connection) -> list[Migration]:
    """Return the migrations that the database lacks, in order.

    Raises StartupError when the database cannot be served by this version: too old
    a PostgreSQL, another encoding than UTF8, an edited or an unknown migration.
    """
    _check_server(conn)
    applied = _applied(conn)
    known = {migration.version: migration for migration in available()}
    for version, (name, checksum) in applied.items():
        if version not in known:
            raise StartupError(
                f"the database is newer than this ccapi: it has migration {name}; upgrade ccapi"
            )
        if known[version].checksum != checksum:
            raise StartupError(
                f"migration {name} differs from the one that made this database: "
                "restore sql/migrations from the release"
            )
    return [migration for version, migration in known.items() if version not in applied]


def missing(conn: Connection) -> list[str]:
    """Name the migrations of ours that the database lacks; it may have newer ones."""
    applied = _applied(conn)
    return [migration.name for migration in available() if migration.version not in applied]


def require_current(database: Database) -> None:
    """Refuse to go on with a database that has pending migrations.

    Raises StartupError, which says what to run, or DatabaseUnavailable.
    """
    with database.session() as conn:
        lacking = pending(conn)
    if lacking:
        names = ", ".join(migration.name for migration in lacking)
        raise StartupError(f"the database lacks {names}: run `ccapi migrate` first")


def migrate(database: Database) -> list[Migration]:
    """Apply what is pending, each migration in a transaction of its own; return those.

    Several may run at once: one does the work, the others wait for it.
    """
    with database.session() as conn:
        _check_server(conn)
        with _lock(conn):
            conn.execute(_SQL["create_migrations_table"])
            migrations = pending(conn)
            for migration in migrations:
                _apply(conn, migration)
    return migrations


def _apply(conn: Connection, migration: Migration) -> None:
    with conn.transaction():
        conn.execute(migration.sql.encode())
        parameters = {
            "version": migration.version,
            "name": migration.name,
            "checksum": migration.checksum,
        }
        conn.execute(_SQL["record_migration"], parameters)


@contextmanager
def _lock(conn: Connection) -> Iterator[None]:
    # Polled: a session that waits in pg_advisory_lock holds a snapshot, for which a
    # CREATE INDEX CONCURRENTLY of the session that has the lock would wait in turn.
    while not _scalar(conn, "try_lock_migrations"):
        time.sleep(_LOCK_POLL_SECONDS)
    yield  # The session's end releases the lock.


def _applied(conn: Connection) -> dict[int, tuple[str, str]]:
    if not _scalar(conn, "migrations_table_exists"):
        return {}
    return {
        version: (name, checksum)
        for version, name, checksum in conn.execute(_SQL["applied_migrations"])
    }


def _scalar(conn: Connection, query: str) -> object:
    row = conn.execute(_SQL[query]).fetchone()
    return row and row[0]


def _check_server(conn: Connection) -> None:
    number, version, encoding = conn.execute(_SQL["server_facts"]).fetchone() or (0, "", "")
    if number // 10_000 < MIN_SERVER_VERSION:
        raise StartupError(
            f"PostgreSQL {version} is too old: ccapi needs {MIN_SERVER_VERSION} or newer; upgrade it "
            "(pg_upgrade), or let [database] url lead to another"
        )
    if encoding != "UTF8":
        raise StartupError(
            f"the database's encoding is {encoding}: create it with "
            "`createdb --encoding=UTF8 --locale=C --template=template0`"
        )
