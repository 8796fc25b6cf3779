"""Fixtures of all tests: a PostgreSQL server, an app for each test, a client for each role."""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask

from ccapi import config as settings
from ccapi import logs
from ccapi.app import build_context, create_app
from ccapi.archive.writer import create_if_missing
from ccapi.context import Context
from ccapi.db import migrations
from ccapi.db.pool import Connection, Database
from ccapi.embedded import PrivatePostgres, find_installations
from ccapi.http.cache import Caches
from ccapi.model.token import Role
from ccapi.service import tokens
from tests.client import Client

_SHARED_MEMORY = Path("/dev/shm")
_MIN_FREE_BYTES = 500_000_000
# Faster than TRUNCATE.
_DELETE_ALL = (
    "DELETE FROM jobs; DELETE FROM archive_queue; DELETE FROM archive_edits;"
    "DELETE FROM pruned_jobs; DELETE FROM hosts; DELETE FROM tags;"
    "DELETE FROM tokens; DELETE FROM node_states; DELETE FROM rollup_days;"
    "DELETE FROM rollup_changes; DELETE FROM rollup_sums; DELETE FROM rollup_timelines;"
    "DELETE FROM rollup_histograms; DELETE FROM rollup_hosts;"
    "DELETE FROM rollup_periods"
)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Keep the files of `make check` in memory: a disk makes each stop durable, and is slow."""
    is_check = config.option.markexpr == "not slow" and config.option.basetemp is None
    if not is_check or hasattr(config, "workerinput") or not has_shared_memory():
        return
    # Some tests run what they have written.
    if not os.statvfs(_SHARED_MEMORY).f_flag & os.ST_NOEXEC:
        directory = tempfile.mkdtemp(prefix="ccapi-check-", dir=_SHARED_MEMORY)
        config.option.basetemp = Path(directory) / "tests"
        config.add_cleanup(lambda: shutil.rmtree(directory, ignore_errors=True))


def has_shared_memory() -> bool:
    """Return whether the tests' data fits into memory."""
    return _SHARED_MEMORY.is_dir() and shutil.disk_usage(_SHARED_MEMORY).free > _MIN_FREE_BYTES


@pytest.fixture(scope="session")
def postgres() -> Iterator[PrivatePostgres]:
    """Run the newest installed PostgreSQL, with its data in memory if there is enough."""
    place = _SHARED_MEMORY if has_shared_memory() else None
    directory = Path(tempfile.mkdtemp(prefix="ccapi-", dir=place))
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


@pytest.fixture(scope="session")
def _session(_migrated: Database) -> Iterator[Connection]:
    with _migrated.session() as conn:
        yield conn


@pytest.fixture
def database(_migrated: Database, _session: Connection) -> Iterator[Database]:
    """Return an empty, migrated database, and leave it empty."""
    _session.execute(_DELETE_ALL)
    yield _migrated
    _session.execute(_DELETE_ALL)


@pytest.fixture(autouse=True)
def _log_level() -> Iterator[None]:
    """Restore the log's level, which each app sets for the whole process."""
    logger = logging.getLogger("ccapi")
    level = logger.level
    yield
    logger.setLevel(level)


def empty(database: Database) -> None:
    """Delete all jobs, tags and tokens."""
    with database.session() as conn:
        conn.execute(_DELETE_ALL)


@pytest.fixture
def config(
    postgres: PrivatePostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> settings.Config:
    """Return settings of a service with the test database and its own archive."""
    for name in [name for name in os.environ if name.startswith("CCAPI_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    environment = {
        "CCAPI_DATABASE_URL": postgres.url,
        "CCAPI_ARCHIVE_ROOT": str(tmp_path / "job-archive"),
        # Tests read what they have just changed; tests/api/test_cache.py uses the cache.
        "CCAPI_JOBS_LIST_CACHE_SECONDS": "0",
    }
    return settings.load(environ=environment)


@pytest.fixture(scope="session")
def _apps() -> list[tuple[settings.Config, Flask]]:
    """Return the apps that tests with the same settings share: building one takes 30 ms."""
    return []


@pytest.fixture
def app(
    config: settings.Config, database: Database, _apps: list[tuple[settings.Config, Flask]]
) -> Flask:
    """Return the service with a context and caches of its own."""
    key = replace(config, archive=replace(config.archive, root=Path()))
    app = next((app for settings, app in _apps if settings == key), None)
    if app is None:
        app = serve(config, database)
        _apps.append((key, app))
    logs.configure(config.log.level, config.log.format)
    create_if_missing(config.archive.root)
    app.extensions["ccapi"] = replace(build_context(config), database=database)
    app.extensions["ccapi_caches"] = Caches(config.jobs.list_cache_seconds)
    return app


@pytest.fixture
def context(app: Flask) -> Context:
    """Return the context of the app's use cases."""
    context: Context = app.extensions["ccapi"]
    return context


@pytest.fixture
def admin(app: Flask, database: Database) -> Client:
    """Return a client with the role admin."""
    return client(app, database, Role.ADMIN)


@pytest.fixture
def writer(app: Flask, database: Database) -> Client:
    """Return a client with the role writer."""
    return client(app, database, Role.WRITER)


@pytest.fixture
def reader(app: Flask, database: Database) -> Client:
    """Return a client with the role reader."""
    return client(app, database, Role.READER)


def serve(config: settings.Config, database: Database) -> Flask:
    """Build the service with the tests' pool; a pool for each test would take most of the time."""
    return create_app(config, replace(build_context(config), database=database))


def client(app: Flask, database: Database, role: Role) -> Client:
    """Return a client of an app with a new token of a role."""
    return Client(app.test_client(), tokens.create(database, f"test-{role}", role))
