"""How gunicorn starts the service, and what it says when it cannot."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from werkzeug.http import HTTP_STATUS_CODES

from ccapi import app
from ccapi.config import Config
from ccapi.db import migrations
from ccapi.db.pool import Database
from ccapi.embedded import PrivatePostgres
from ccapi.model.token import Role
from ccapi.service import tokens
from tests.processes import Service, clean_environment, gunicorn

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


@pytest.mark.slow
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
    [line] = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    assert line == (
        f"ccapi: cannot listen on {host}:{port}: Address already in use; "
        "choose another address with --bind, or find the program that uses it with `ss -ltnp`"
    )


@pytest.mark.slow
def test_the_service_starts_without_a_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CCAPI_DATABASE_URL", f"postgresql:///ccapi?host={tmp_path}")
    client = app.application().test_client()
    assert client.get("/api/openapi.json").status_code == 200
    headers = {"X-Auth-Token": "ccapi_" + 43 * "x"}
    assert client.get("/api/jobs/", headers=headers).status_code == 503


def test_all_lines_of_the_log_are_json(tmp_path: Path, config: Config, database: Database) -> None:
    assert database
    log = tmp_path / "gunicorn.log"
    with gunicorn({"CCAPI_DATABASE_URL": config.database.url}, tmp_path, workers=1) as service:
        os.kill(service.pid, signal.SIGHUP)
        deadline = time.monotonic() + 60
        while log.read_text("utf-8").count("Booting worker") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    messages = " ".join(line["message"] for line in lines if line["logger"] == "gunicorn.error")
    for message in ("Starting gunicorn", "Handling signal: hup", "Shutting down: Master"):
        assert message in messages


def exchange(service: Service, request: bytes) -> tuple[str, dict[str, str]]:
    """Send bytes, and return the head of the answer and its JSON."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as connection:
        connection.sendall(request)
        response = b"".join(iter(lambda: connection.recv(65_536), b""))
    head, _, body = response.decode().partition("\r\n\r\n")
    return head, json.loads(body)


@pytest.mark.slow
def test_errors_of_gunicorn_are_json(tmp_path: Path, config: Config, database: Database) -> None:
    token = tokens.create(database, "client", Role.WRITER)
    get = b"GET /api/jobs/ HTTP/1.1\r\nHost: x\r\n"
    long = 9_000 * b"x"
    requests = {
        400: get + b"Bad Header: x\r\n\r\n",
        414: b"GET /" + long + b" HTTP/1.1\r\n\r\n",
        417: get + b"Expect: x\r\nContent-Length: 0\r\n\r\n",
        431: get + b"X-Long: " + long + b"\r\n\r\n",
        501: get + b"Transfer-Encoding: x\r\n\r\n",
    }
    with gunicorn({"CCAPI_DATABASE_URL": config.database.url}, tmp_path, workers=1) as service:
        for status, request in requests.items():
            head, body = exchange(service, request)
            assert head.startswith(f"HTTP/1.1 {status} ")
            assert "Content-Type: application/json" in head
            assert set(body) == {"status", "error"}
            assert body["status"] == HTTP_STATUS_CODES[status]
        head, body = exchange_with_aborted_worker(service, token)
    assert head.startswith("HTTP/1.1 503 ")
    assert "Retry-After: 5" in head
    assert "took too long" in body["error"]


def exchange_with_aborted_worker(service: Service, token: str) -> tuple[str, dict[str, str]]:
    """Send half a body; abort the worker that waits for the rest, as gunicorn's timeout does."""
    head = f"POST /api/jobs/start_job/ HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token}\r\n"
    with ThreadPoolExecutor(1) as client:
        request = f"{head}Content-Length: 9\r\n\r\n{{".encode()
        answer = client.submit(exchange, service, request)
        while not answer.done():
            time.sleep(1)
            for pid in service.workers():
                os.kill(pid, signal.SIGABRT)
        return answer.result()
