"""What is measured: a durable PostgreSQL of our own on a disk, the service, the bare route."""

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.driver import NUMBER
from bench.load import fill
from bench.service import Service, gunicorn, post
from ccapi.db import migrations
from ccapi.db.pool import Database
from ccapi.embedded import PrivatePostgres, private_postgres
from ccapi.model.token import Role
from ccapi.service import tokens

WORKERS = 2
CLUSTER = "started"
# Before all that is loaded, so that what is started does not stand on every first page.
START_TIME = 1_400_000_000
_BODY_BYTES = 2048
# As for a machine with 8 GB; the rest is PostgreSQL's default, fsync on included.
_POSTGRES = {
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "effective_cache_size": "4GB",
    "maintenance_work_mem": "512MB",
    "checkpoint_timeout": "15min",
}


@dataclass(frozen=True)
class Context:
    """A service on a database of its own; `admin` and `reader` are tokens."""

    name: str
    url: str
    database: Database
    admin: str
    reader: str
    service: Service
    archive: Path

    @property
    def socket(self) -> str:
        """Return the path of the service's socket."""
        return str(self.service.socket)

    def number(self, query: str) -> int:
        """Ask the database for one number."""
        return number(self.database, query)

    def execute(self, *statements: str) -> None:
        """Tell the database something."""
        with self.database.session() as conn:
            for statement in statements:
                conn.execute(statement.encode())


@dataclass(frozen=True)
class Site:
    """Everything that runs while the benchmarks do; `small` has 100,000 jobs."""

    postgres: PrivatePostgres
    bare: Service
    small: Context
    large: Context
    directory: Path


@contextmanager
def running(directory: Path, *, small: int, large: int) -> Iterator[Site]:
    """Run PostgreSQL and what is in front of it, filled; the data stays for the next time."""
    directory.mkdir(parents=True, exist_ok=True)
    postgres = private_postgres(directory / "postgresql", settings=_POSTGRES)
    with ExitStack() as opened:
        opened.enter_context(postgres)
        yield Site(
            postgres=postgres,
            small=opened.enter_context(_registry(postgres, directory, "small", small)),
            large=opened.enter_context(_registry(postgres, directory, f"large{large}", large)),
            bare=opened.enter_context(
                gunicorn("bench.bare:app", directory / "bare.sock", workers=WORKERS)
            ),
            directory=directory,
        )


@contextmanager
def _registry(
    postgres: PrivatePostgres, directory: Path, name: str, jobs: int
) -> Iterator[Context]:
    url = postgres.database_url(name)
    database = migrated(postgres, name)
    fill(database, jobs)
    admin, reader = (_token(database, role) for role in (Role.ADMIN, Role.READER))
    archive = directory / f"job-archive-{name}"
    settings = {
        "CCAPI_CONFIG": "/dev/null",
        "CCAPI_DATABASE_URL": url,
        "CCAPI_ARCHIVE_ROOT": str(archive),
    }
    socket = directory / f"{name}.sock"
    with served(socket, settings, WORKERS) as service:
        yield Context(name, url, database, admin, reader, service, archive)


def served(
    socket: Path, settings: Mapping[str, str], workers: int
) -> AbstractContextManager[Service]:
    """Serve as a site does: metrics, log and all."""
    config = "python:ccapi.gunicorn_hooks"
    return gunicorn(
        "ccapi.app:application()", socket, workers=workers, config=config, settings=settings
    )


def migrated(postgres: PrivatePostgres, name: str) -> Database:
    """Return a database of the server, made if need be."""
    with Database(postgres.url).session() as conn:
        known = conn.execute("SELECT FROM pg_database WHERE datname = %s", [name])
        if known.rowcount == 0:
            conn.execute(f"CREATE DATABASE {name}".encode())
    database = Database(postgres.database_url(name))
    migrations.migrate(database)
    return database


def number(database: Database, query: str) -> int:
    """Ask a database for one number."""
    with database.session() as conn:
        row = conn.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


def _token(database: Database, role: Role) -> str:
    """Make a token; those of former runs end."""
    name = f"bench-{role}"
    try:
        return tokens.create(database, name, role)
    except tokens.TokenError:
        tokens.revoke(database, name)
        return tokens.create(database, name, role)


def _body() -> dict[str, Any]:
    """Describe the job that the benchmarks start, in 2 KB; its number is left open."""
    given: dict[str, Any] = {
        "jobId": NUMBER,
        "user": "abcd100h",
        "project": "abcd200",
        "cluster": CLUSTER,
        "subCluster": "main",
        "partition": "multinode",
        "arrayJobId": 1_034_871,
        "numNodes": 4,
        "numHwthreads": 288,
        "exclusive": 1,
        "smt": 1,
        "walltime": 86_400,
        "monitoringStatus": 1,
        "startTime": START_TIME,
        "resources": [
            {"hostname": f"f01{node:02}", "hwthreads": list(range(72))} for node in range(1, 5)
        ],
        "metaData": {"jobName": "rotor", "jobScript": ""},
    }
    missing = _BODY_BYTES - len(json.dumps(given))
    given["metaData"]["jobScript"] = "srun ./rotor input.yaml # ".ljust(missing, "x")[:missing]
    return given


BODY = _body()


def start_job(token: str, **changed: Any) -> str:
    """Write a start of 4 nodes with 72 hardware threads each, its body 2 KB."""
    return post("/api/jobs/start_job/", token, _numbered({**BODY, **changed}))


def stop_job(token: str) -> str:
    """Write a stop of what `start_job` started."""
    body = {"jobId": NUMBER, "cluster": CLUSTER, "jobState": "completed"}
    return post("/api/jobs/stop_job/", token, _numbered({**body, "stopTime": START_TIME + 7200}))


def _numbered(body: dict[str, Any]) -> str:
    return json.dumps(body).replace(f'"{NUMBER}"', NUMBER)
