"""How gunicorn starts the service, and what it says when it cannot."""

import socket
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from ccapi import app
from ccapi.db import migrations
from ccapi.embedded import PrivatePostgres
from tests.processes import clean_environment

GUNICORN = [sys.executable, "-m", "gunicorn", "--config", "python:ccapi.gunicorn_hooks"]


def serve(
    settings: dict[str, str], directory: Path, bind: str = "127.0.0.1:0"
) -> subprocess.CompletedProcess[str]:
    """Start gunicorn with settings with which it ends by itself."""
    return subprocess.run(
        [*GUNICORN, "--bind", bind, "ccapi.app:application()"],
        cwd=directory,
        env={**clean_environment(), **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_gunicorns_master_does_not_import_prometheus_client() -> None:
    """The library looks for the workers' directory only once, when it is imported."""
    code = "import sys, ccapi.gunicorn_hooks; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_pending_migrations_end_gunicorn_with_one_line(
    postgres: PrivatePostgres, tmp_path: Path
) -> None:
    with psycopg.connect(postgres.url, autocommit=True) as conn:
        conn.execute("CREATE DATABASE not_migrated")
    ended = serve({"CCAPI_DATABASE_URL": postgres.database_url("not_migrated")}, tmp_path)
    assert ended.returncode != 0
    names = ", ".join(migration.name for migration in migrations.available())
    said = f"ccapi: migrations are missing: {names}; run `ccapi migrate` first\n"
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_bad_setting_ends_gunicorn_with_one_line(tmp_path: Path) -> None:
    ended = serve({"CCAPI_JOBS_DUPLICATE_WINDOW": "soon"}, tmp_path)
    assert ended.returncode != 0
    assert "ccapi: environment: CCAPI_JOBS_DUPLICATE_WINDOW: expected an integer" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("host", "bind"), [("127.0.0.1", "127.0.0.1:{}"), ("::1", "[::1]:{}")], ids=["IPv4", "IPv6"]
)
def test_a_busy_port_ends_gunicorn_at_once_with_one_line(
    tmp_path: Path, host: str, bind: str
) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as other:
        port = other.getsockname()[1]
        ended = serve({}, tmp_path, bind.format(port))
    assert ended.returncode != 0
    [line] = [line for line in ended.stderr.splitlines() if "[INFO]" not in line]
    assert line == (
        f"ccapi: cannot listen on {host}:{port}: Address already in use; "
        "choose another address with --bind, or find the program that uses it with `ss -ltnp`"
    )


def test_the_service_starts_without_a_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CCAPI_DATABASE_URL", f"postgresql:///ccapi?host={tmp_path}")
    client = app.application().test_client()
    assert client.get("/api/openapi.json").status_code == 200
    headers = {"X-Auth-Token": "ccapi_" + 43 * "x"}
    assert client.get("/api/jobs/", headers=headers).status_code == 503
