"""What the tests run on: a real PostgreSQL of their own, an app per test, tokens per role."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask

from ccapi import config as settings
from ccapi.app import build_context, create_app
from ccapi.context import Context
from ccapi.db import migrations
from ccapi.db.pool import Database
from ccapi.embedded import PrivatePostgres, find_installations
from ccapi.model.token import Role
from ccapi.service import tokens
from tests.client import Client

_MEMORY = Path("/dev/shm")
_ENOUGH_BYTES = 500_000_000


@pytest.fixture(scope="session")
def postgres() -> Iterator[PrivatePostgres]:
    """Run the newest PostgreSQL found, in memory where there is room."""
    in_memory = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ENOUGH_BYTES
    directory = Path(tempfile.mkdtemp(prefix="ccapi-", dir=_MEMORY if in_memory else None))
    directory.chmod(0o755)
    newest = max(find_installations(), key=lambda installation: installation.major)
    with PrivatePostgres(directory, newest, durable=False) as server:
        yield server
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def _migrated(postgres: PrivatePostgres) -> Iterator[Database]:
    database = Database(postgres.url)
    migrations.migrate(database)
    yield database
    database.close()


@pytest.fixture
def database(_migrated: Database) -> Iterator[Database]:
    """Lend an empty, migrated database."""
    empty(_migrated)
    yield _migrated
    empty(_migrated)


def empty(database: Database) -> None:
    """Forget all jobs, tags and tokens; faster than TRUNCATE."""
    with database.session() as conn:
        conn.execute("DELETE FROM jobs")
        conn.execute("DELETE FROM archive_queue")
        conn.execute("DELETE FROM hosts")
        conn.execute("DELETE FROM tags")
        conn.execute("DELETE FROM tokens")


@pytest.fixture
def config(
    postgres: PrivatePostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> settings.Config:
    """Give the settings of a service on the test database, with an archive of its own."""
    for name in [name for name in os.environ if name.startswith("CCAPI_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    environment = {
        "CCAPI_DATABASE_URL": postgres.url,
        "CCAPI_ARCHIVE_ROOT": str(tmp_path / "job-archive"),
        # Tests change what they then ask for; tests/api/test_sharing.py has readers share.
        "CCAPI_JOBS_LIST_CACHE_SECONDS": "0",
    }
    return settings.load(environ=environment)


@pytest.fixture
def app(config: settings.Config, database: Database) -> Flask:
    """Build the service."""
    return serve(config, database)


@pytest.fixture
def context(app: Flask) -> Context:
    """Lend what the app's use cases work on."""
    found: Context = app.extensions["ccapi"]
    return found


@pytest.fixture
def admin(app: Flask, database: Database) -> Client:
    """Speak to the service with a token that may do everything."""
    return client(app, database, Role.ADMIN)


@pytest.fixture
def writer(app: Flask, database: Database) -> Client:
    """Speak to the service as a hook does."""
    return client(app, database, Role.WRITER)


@pytest.fixture
def reader(app: Flask, database: Database) -> Client:
    """Speak to the service as a dashboard does."""
    return client(app, database, Role.READER)


def serve(config: settings.Config, database: Database) -> Flask:
    """Build the service on the tests' pool: opening one for every test would take most time."""
    return create_app(config, replace(build_context(config), database=database))


def client(app: Flask, database: Database, role: Role) -> Client:
    """Speak to an app with a new token of a role."""
    return Client(app.test_client(), tokens.create(database, f"test-{role}", role))
