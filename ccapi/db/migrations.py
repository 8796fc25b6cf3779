"""Apply the numbered files in sql/migrations/ once each, in order."""

import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg

from ccapi.db import queries, sites
from ccapi.db.pool import Connection, Database, is_pooled
from ccapi.errors import StartupError

_SQL = queries.load("migrations")
MIN_SERVER_VERSION = 13
_LOCK_POLL_SECONDS = 0.1
# How long a migration lets requests queue up behind its wait for a table, how long it lets them
# pass before it tries again, and when it gives up.
_TABLE_LOCK_TIMEOUT = "1s"
_TABLE_LOCK_PAUSE_SECONDS = 2.0
_TABLE_LOCK_MAX_SECONDS = 300.0
# The first line of a migration that runs outside a transaction, as CREATE INDEX CONCURRENTLY
# must. Its statements end with a semicolon at the end of a line, and can all run again.
_NO_TRANSACTION = "-- no transaction"
_STATEMENT_END = re.compile(r"(?<=;)\n")


class Migration(NamedTuple):
    """One step of the schema: 0001_create_schema.sql is version 1."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """Return a digest of the file: a released migration is never edited."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def available(directory: Path | None = None) -> list[Migration]:
    """Read the migrations of this version of ccapi, in order."""
    files = sorted((directory or queries.sql_directory() / "migrations").glob("[0-9]*.sql"))
    return [Migration(int(file.name[:4]), file.stem, file.read_text("utf-8")) for file in files]


def pending(conn: Connection) -> list[Migration]:
    """Return the migrations that are not applied yet, in order.

    Raises StartupError when this version cannot serve the database: PostgreSQL is too old,
    the encoding is not UTF8, a migration was edited or is unknown.
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
    """Return the names of migrations that are not applied; the database may have newer ones."""
    applied = _applied(conn)
    return [migration.name for migration in available() if migration.version not in applied]


def require_current(database: Database, site: int | None = None) -> None:
    """Raise StartupError if the database has pending migrations, or is another site.

    Raises DatabaseUnavailable.
    """
    with database.session() as conn:
        migrations = pending(conn)
        if not migrations:
            sites.require(conn, site)
    if migrations:
        names = ", ".join(migration.name for migration in migrations)
        raise StartupError(f"migrations are missing: {names}; run `ccapi migrate` first")


def migrate(
    database: Database, site: int | None = None, *, renumber: bool = False
) -> list[Migration]:
    """Apply the pending migrations, each in its own transaction, and return them.

    Then make the database a site of a hub, or the hub, if it is to be one.

    Several processes may call this at once: one does the work, the others wait. Raises
    StartupError behind a connection pooler, which may pass the lock on to another client.
    """
    with database.session() as conn:
        if is_pooled(conn):
            raise StartupError(
                "migrations need a session of their own, and a connection pooler stands before the "
                "database: set CCAPI_DATABASE_URL to PostgreSQL itself for this command"
            )
        _check_server(conn)
        with _lock(conn):
            conn.execute(_SQL["create_migrations_table"])
            migrations = pending(conn)
            for migration in migrations:
                if migration.sql.startswith(_NO_TRANSACTION):
                    for statement in _STATEMENT_END.split(migration.sql):
                        if statement.strip():
                            conn.execute(statement.encode())
                    _record(conn, migration)
                else:
                    _apply(conn, migration)
            with conn.transaction():
                sites.prepare(conn, site, renumber=renumber)
    return migrations


def _apply(conn: Connection, migration: Migration) -> None:
    """Apply a migration in a transaction; raises StartupError if a table stays locked.

    All requests for a table queue up behind a migration that waits for it, so it waits for a
    second only, and again after a pause.
    """
    deadline = time.monotonic() + _TABLE_LOCK_MAX_SECONDS
    while True:
        try:
            with conn.transaction():
                conn.execute(_SQL["limit_lock_wait"], {"timeout": _TABLE_LOCK_TIMEOUT})
                conn.execute(migration.sql.encode())
                _record(conn, migration)
        except psycopg.errors.LockNotAvailable:
            if time.monotonic() > deadline:
                raise StartupError(
                    f"migration {migration.name} is not applied: a transaction has locked its "
                    "table for minutes; find it in pg_stat_activity, end it, and run it again"
                ) from None
            time.sleep(_TABLE_LOCK_PAUSE_SECONDS)
        else:
            return


def _record(conn: Connection, migration: Migration) -> None:
    parameters = {
        "version": migration.version,
        "name": migration.name,
        "checksum": migration.checksum,
    }
    conn.execute(_SQL["record_migration"], parameters)


@contextmanager
def _lock(conn: Connection) -> Iterator[None]:
    # Poll: a session that waits in pg_advisory_lock holds a snapshot, and a CREATE INDEX
    # CONCURRENTLY in the session that has the lock would wait for that snapshot.
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
    number, version, encoding = conn.execute(_SQL["server_info"]).fetchone() or (0, "", "")
    if number // 10_000 < MIN_SERVER_VERSION:
        raise StartupError(
            f"PostgreSQL {version} is too old: ccapi needs {MIN_SERVER_VERSION} or newer; "
            "upgrade it (pg_upgrade), or point [database] url to a newer server"
        )
    if encoding != "UTF8":
        raise StartupError(
            f"the database's encoding is {encoding}: create it with "
            "`createdb --encoding=UTF8 --locale=C --template=template0`"
        )
