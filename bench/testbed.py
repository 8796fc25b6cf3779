"""What the benchmarks measure: a durable PostgreSQL, ccapi on it, and an empty Flask route."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.fill import fill_database
from bench.server import Server, run_gunicorn
from ccapi.db import migrations
from ccapi.db.pool import Database
from ccapi.embedded import PrivatePostgres, private_postgres
from ccapi.model.token import ALL_JOBS, Role, Scope
from ccapi.service import tokens

WORKERS = 2
# For a machine with 8 GB; all other settings are PostgreSQL's defaults, fsync = on included.
_POSTGRES_SETTINGS = {
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "effective_cache_size": "4GB",
    "maintenance_work_mem": "512MB",
    "checkpoint_timeout": "15min",
}


@dataclass(frozen=True)
class Instance:
    """A running ccapi with a database of its own."""

    name: str
    database: Database
    settings: Mapping[str, str]
    admin_token: str
    reader_token: str
    server: Server

    @property
    def socket(self) -> str:
        """Return the path of the server's socket."""
        return str(self.server.socket)

    def query_number(self, query: str, *parameters: int) -> int:
        """Run a query whose result is one number."""
        return query_number(self.database, query, *parameters)

    def execute(self, statement: str) -> None:
        """Run a statement without a result."""
        with self.database.session() as conn:
            conn.execute(statement.encode())


@dataclass(frozen=True)
class Testbed:
    """Everything that runs during the benchmarks."""

    postgres: PrivatePostgres
    empty: Server
    small: Instance
    large: Instance
    directory: Path


@contextmanager
def run_testbed(directory: Path, *, small_jobs: int, large_jobs: int) -> Iterator[Testbed]:
    """Run the testbed until the block ends; later runs reuse the data in its directory."""
    directory.mkdir(parents=True, exist_ok=True)
    postgres = private_postgres(directory / "postgresql", settings=_POSTGRES_SETTINGS)
    with ExitStack() as stack:
        stack.enter_context(postgres)
        large_name = f"large{large_jobs}"
        yield Testbed(
            postgres=postgres,
            small=stack.enter_context(_run_instance(postgres, directory, "small", small_jobs)),
            large=stack.enter_context(_run_instance(postgres, directory, large_name, large_jobs)),
            empty=stack.enter_context(
                run_gunicorn("bench.empty_app:app", directory / "empty.sock", workers=WORKERS)
            ),
            directory=directory,
        )


@contextmanager
def _run_instance(
    postgres: PrivatePostgres, directory: Path, name: str, jobs: int
) -> Iterator[Instance]:
    database = prepare_database(postgres, name)
    fill_database(database, jobs)
    admin_token, reader_token = (create_token(database, role) for role in (Role.ADMIN, Role.READER))
    settings = {
        "CCAPI_CONFIG": "/dev/null",
        "CCAPI_DATABASE_URL": postgres.database_url(name),
        "CCAPI_ARCHIVE_ROOT": str(directory / f"job-archive-{name}"),
    }
    with run_ccapi(directory / f"{name}.sock", settings, workers=WORKERS) as server:
        yield Instance(name, database, settings, admin_token, reader_token, server)


def run_ccapi(
    socket: Path, settings: Mapping[str, str], *, workers: int
) -> AbstractContextManager[Server]:
    """Serve ccapi as in production, with metrics and log."""
    config = "python:ccapi.gunicorn_hooks"
    return run_gunicorn(
        "ccapi.app:application()", socket, workers=workers, config=config, settings=settings
    )


def prepare_database(postgres: PrivatePostgres, name: str) -> Database:
    """Return a migrated database, created if it does not exist."""
    with Database(postgres.url).session() as conn:
        existing = conn.execute("SELECT FROM pg_database WHERE datname = %s", [name])
        if existing.rowcount == 0:
            conn.execute(f"CREATE DATABASE {name}".encode())
    database = Database(postgres.database_url(name))
    migrations.migrate(database)
    return database


def query_number(database: Database, query: str, *parameters: int) -> int:
    """Run a query whose result is one number."""
    with database.session() as conn:
        row = conn.execute(query.encode(), parameters or None).fetchone()
    assert row is not None
    return int(row[0])


def create_token(database: Database, role: Role, scope: Scope = ALL_JOBS) -> str:
    """Create a token, and revoke that of an earlier run."""
    name = f"bench-{role}" if scope == ALL_JOBS else "bench-limited"
    try:
        return tokens.create(database, name, role, scope=scope)
    except tokens.TokenError:
        tokens.revoke(database, name)
        return tokens.create(database, name, role, scope=scope)
