"""/healthz and /readyz: no token, no internals, and never slow."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from ccapi.app import create_app
from ccapi.config import Config
from ccapi.db import migrations
from ccapi.db.pool import Database, Limits
from ccapi.embedded import PrivatePostgres, private_postgres
from tests.client import assert_error
from tests.conftest import serve

_STALE_SECONDS = 1.1


@pytest.fixture
def app(config: Config, database: Database) -> Flask:
    """Build an app that has no results of probes yet."""
    return serve(config, database)


def ready(app: Flask) -> TestResponse:
    return app.test_client().get("/readyz")


@contextmanager
def serving(config: Config, database: Database) -> Iterator[Flask]:
    """Serve another database."""
    yield serve(config, database)
    database.close()


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_healthy_service_answers_200_without_a_token(app: Flask, path: str) -> None:
    response = app.test_client().get(path)
    assert (response.status_code, response.get_json()) == (200, {"status": "OK"})


def test_health_is_not_part_of_the_document(app: Flask) -> None:
    paths = app.test_client().get("/api/openapi.json").get_json()["paths"]
    assert not [path for path in paths if "health" in path or "ready" in path]


@pytest.mark.slow
def test_service_without_its_database_is_alive_and_not_ready(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    down = Database("postgresql:///ccapi?host=/nonexistent", Limits(pool_timeout=0.1))
    with serving(config, down) as app:
        assert app.test_client().get("/healthz").status_code == 200
        response = ready(app)
        time.sleep(_STALE_SECONDS)
        ready(app)
    assert_error(response, 503, "the database does not answer")
    assert "nonexistent" not in response.text
    assert len([line for line in caplog.messages if line.startswith("not ready")]) == 1


@pytest.mark.slow
def test_service_is_ready_again_when_the_cause_is_gone(app: Flask, config: Config) -> None:
    root, away = config.archive.root, config.archive.root.with_name("away")
    root.rename(away)
    assert_error(ready(app), 503, "the archive cannot be written")
    away.rename(root)
    time.sleep(_STALE_SECONDS)
    assert ready(app).status_code == 200


def test_all_reasons_are_reported_at_once(config: Config) -> None:
    down = Database("postgresql://127.0.0.1:1/x", Limits(pool_timeout=0.1))
    with serving(config, down) as app:
        config.archive.root.rename(config.archive.root.with_name("away"))
        assert_error(ready(app), 503, "the database does not answer; the archive cannot be")


def test_check_leaves_nothing_in_the_archive(app: Flask, config: Config) -> None:
    assert ready(app).status_code == 200
    assert [path.name for path in config.archive.root.iterdir()] == ["version.txt"]


@pytest.mark.slow
def test_a_locked_table_is_not_ready(app: Flask, database: Database) -> None:
    with database.session() as administrator, administrator.transaction():
        administrator.execute("LOCK TABLE jobs IN SHARE MODE")
        assert_error(ready(app), 503, "the database does not accept jobs")
    time.sleep(_STALE_SECONDS)
    assert ready(app).status_code == 200


@pytest.fixture
def own(tmp_path: Path) -> Iterator[PrivatePostgres]:
    """Run a server that only this test disturbs."""
    with private_postgres(tmp_path / "own", durable=False) as server:
        migrations.migrate(Database(server.url))
        yield server


def processes(server: PrivatePostgres) -> list[int]:
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text("ascii")
    return [server.pid or 0, *map(int, children.split())]


@pytest.mark.slow
def test_schema_read_only_and_frozen_server_are_detected(
    config: Config, own: PrivatePostgres
) -> None:
    with serving(config, Database(own.url, Limits(statement_timeout=1))) as app:
        assert ready(app).status_code == 200
        execute(own, "INSERT INTO schema_migrations VALUES (9999, '9999_newer', '')")
        time.sleep(_STALE_SECONDS)
        assert ready(app).status_code == 200
        frozen = processes(own)
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(_STALE_SECONDS)
        begun = time.monotonic()
        assert_error(ready(app), 503, "the database does not answer")
        assert_error(ready(app), 503, "the database does not answer")
        assert time.monotonic() - begun < 8
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
        execute(own, "DELETE FROM schema_migrations")
        until(app, "migrations are missing: run `ccapi migrate`")
        execute(own, "INSERT INTO schema_migrations SELECT n, '', '' FROM generate_series(1, 99) n")
        execute(own, f"ALTER DATABASE {name(own)} SET default_transaction_read_only TO on")
        app.extensions["ccapi"].database.close()
        until(app, "the database is read-only")


def until(app: Flask, said: str) -> None:
    """Wait until the service says why it is not ready."""
    deadline = time.monotonic() + 30
    while said not in (response := ready(app)).text:
        assert time.monotonic() < deadline, response.text
        time.sleep(0.2)


def name(server: PrivatePostgres) -> str:
    with Database(server.url).session() as conn:
        row = conn.execute("SELECT current_database()").fetchone()
    assert row is not None
    return str(row[0])


def execute(server: PrivatePostgres, statement: str) -> None:
    with Database(server.url).session() as conn:
        conn.execute(statement.encode())


def test_service_starts_unready_without_its_database(config: Config) -> None:
    down = replace(config.database, url="postgresql://127.0.0.1:1/x", pool_timeout=0.1)
    app = create_app(replace(config, database=down))
    assert_error(ready(app), 503, "the database does not answer")
    app.extensions["ccapi"].database.close()
