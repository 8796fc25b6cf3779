"""Every error, whoever raises it: one body, the right status and headers, no internals."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask

from ccapi.app import create_app
from ccapi.config import Config
from ccapi.db.pool import Database, Limits
from ccapi.repository import job_list, jobs
from tests.client import START, Client, assert_error, assert_nothing_written, count, job, stop

_TAGS = [{"type": "a", "name": "b"}]
# A request that every operation would serve, were it not for the failure of a test.
REQUESTS: dict[str, tuple[str, str, Any]] = {
    "list": ("GET", "/", None),
    "long list": ("GET", "/?items-per-page=100000", None),
    "start": ("POST", "/start_job/", job(jobId=5)),
    "stop": ("POST", "/stop_job/", stop()),
    "stop by id": ("POST", "/stop_job/{id}", stop()),
    "tag": ("POST", "/tag_job/{id}", _TAGS),
    "delete": ("DELETE", "/delete_job/", {"jobId": 123000}),
    "delete by id": ("DELETE", "/delete_job/{id}", None),
    "delete before": ("DELETE", f"/delete_job_before/{START + 1}", None),
}
every_request = pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/api",
        "/api/",
        "/api/jobs/nothing",
        "/api/jobs/stop_job/1/2",
        "/api/jobs/tag_job/",
        "/api/jobs//start_job/",
        "/api/{jobs}/%s%00",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unknown_path_is_404(app: Flask, method: str, path: str) -> None:
    assert_error(app.test_client().open(path, method=method), 404, "nothing at", "openapi.json")


def test_unknown_file_of_the_page_is_404(app: Flask) -> None:
    assert_error(app.test_client().get("/api/docs/static/nothing.js"), 404, "nothing at")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "", None, 200),
        ("POST", "/start_job", job(), 201),
        ("PUT", "/start_job", job(), 201),
        ("POST", "/stop_job", stop(), 200),
        ("PUT", "/stop_job", stop(), 200),
        ("DELETE", "/delete_job", {"jobId": 123000}, 200),
    ],
)
def test_path_without_final_slash_is_served(
    admin: Client, method: str, path: str, body: Any, status: int
) -> None:
    if "start" not in path:
        admin.start()
    response = admin.send(method, path, body)
    assert response.status_code == status, response.text
    assert response.history == ()


WRONG_METHODS = {
    "list": ("DELETE", "/", {"GET"}),
    "start": ("GET", "/start_job/", {"POST", "PUT"}),
    "start, PATCH": ("PATCH", "/start_job/", {"POST", "PUT"}),
    "stop": ("DELETE", "/stop_job/", {"POST", "PUT"}),
    "stop by id": ("PATCH", "/stop_job/1", {"POST", "PUT"}),
    "tag": ("PUT", "/tag_job/1", {"POST", "PATCH", "DELETE"}),
    "delete": ("POST", "/delete_job/", {"DELETE"}),
    "delete by id": ("GET", "/delete_job/1", {"DELETE"}),
    "delete before": ("POST", "/delete_job_before/1", {"DELETE"}),
    "unknown method": ("BREW", "/start_job/", {"POST", "PUT"}),
    "start, slash forgotten": ("GET", "/start_job", {"POST", "PUT"}),
    "stop, slash forgotten": ("GET", "/stop_job", {"POST", "PUT"}),
    "delete, slash forgotten": ("GET", "/delete_job", {"DELETE"}),
    "list, slash forgotten": ("POST", "", {"GET"}),
}


@pytest.mark.parametrize(("method", "path", "allowed"), WRONG_METHODS.values(), ids=WRONG_METHODS)
def test_wrong_method_is_405_with_the_allowed_ones(
    admin: Client, method: str, path: str, allowed: set[str]
) -> None:
    response = admin.send(method, path)
    assert_error(response, 405, method, path)
    assert set(response.allow) - {"HEAD", "OPTIONS"} == allowed


def test_every_answer_has_a_request_id(admin: Client) -> None:
    answers = [
        admin.send("GET", "/"),
        admin.send("GET", "/?items-per-page=1000"),
        admin.send("POST", "/start_job/", job()),
        admin.send("POST", "/start_job/", b""),
        admin.send("GET", "/nothing"),
        admin.http.get("/api/openapi.json"),
    ]
    names = [answer.headers["X-Request-Id"] for answer in answers]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[0-9a-f]{32}", name) for name in names)


_SECRET = "insert into jobs: line 42 of secret.py"


@pytest.fixture
def _broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ValueError(_SECRET)

    monkeypatch.setattr(jobs, "insert", fail)
    monkeypatch.setattr(job_list, "list_page", fail)


@pytest.mark.usefixtures("_broken")
@pytest.mark.parametrize("name", ["start", "list", "long list"])
def test_unexpected_error_shows_only_the_request_id(
    writer: Client, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level(logging.INFO)
    response = writer.send(*REQUESTS[name])
    request_id = response.headers["X-Request-Id"]
    assert_error(response, 500, request_id)
    for internal in ("insert", "42", "ValueError", "Traceback", "ccapi/"):
        assert internal not in response.text.replace(request_id, "")
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert request_id in record.getMessage()
    assert record.exc_info is not None
    assert _SECRET in caplog.text
    assert "Traceback" in caplog.text


@contextmanager
def _served_by(app: Flask, database: Database) -> Iterator[None]:
    """Let the app use another database."""
    before = app.extensions["ccapi"]
    app.extensions["ccapi"] = replace(before, database=database)
    try:
        yield
    finally:
        app.extensions["ccapi"] = before
        database.close()


_DOWN = {
    "no socket": "postgresql:///ccapi?host=/nonexistent",
    "no listener": "postgresql://127.0.0.1:1/ccapi",
}
_SHORT = Limits(connect_timeout=1, pool_timeout=0.1)


@every_request
def test_unavailable_database_is_503_with_retry_after(
    app: Flask, admin: Client, request_: tuple[str, str, Any]
) -> None:
    method, path, body = request_
    with _served_by(app, Database(_DOWN["no socket"], _SHORT)):
        response = admin.send(method, path.format(id=1), body)
    assert_error(response, 503, "database", "try again")
    assert int(response.headers["Retry-After"]) > 0


@pytest.mark.parametrize("url", _DOWN.values(), ids=_DOWN)
def test_unavailable_database_is_explained_only_in_the_log(
    app: Flask, admin: Client, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with _served_by(app, Database(url, _SHORT)):
        response = admin.send("GET", "/")
    assert_error(response, 503)
    assert "nonexistent" not in response.text
    assert "127.0.0.1" not in response.text
    assert f"request {response.headers['X-Request-Id']}" in caplog.text


def test_nonexistent_database_is_503(app: Flask, admin: Client, config: Config) -> None:
    elsewhere = config.database.url.replace("/ccapi?", "/nothing?")
    with _served_by(app, Database(elsewhere, _SHORT)):
        assert_error(admin.send("GET", "/"), 503)


def test_service_recovers_when_the_database_is_back(app: Flask, admin: Client) -> None:
    with _served_by(app, Database(_DOWN["no socket"], _SHORT)):
        assert_error(admin.send("GET", "/"), 503)
    assert admin.list() == []


def test_service_starts_without_its_database(config: Config) -> None:
    down = replace(config.database, url=_DOWN["no socket"], connect_timeout=1, pool_timeout=0.1)
    app = create_app(replace(config, database=down))
    response = app.test_client().get("/api/jobs/", headers={"X-Auth-Token": "ccapi_" + "x" * 43})
    assert_error(response, 503)
    app.extensions["ccapi"].database.close()


@contextmanager
def _jobs_locked(database: Database) -> Iterator[None]:
    with database.session() as conn, conn.transaction():
        conn.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        yield


@every_request
def test_lock_timeout_is_503_and_changes_nothing(
    app: Flask, admin: Client, config: Config, database: Database, request_: tuple[str, str, Any]
) -> None:
    method, path, body = request_
    id_ = admin.start()
    hurried = Database(config.database.url, Limits(statement_timeout=20, lock_timeout=0.1))
    with _served_by(app, hurried), _jobs_locked(database):
        response = admin.send(method, path.format(id=id_), body)
    assert_error(response, 503, "database")
    assert "Retry-After" in response.headers
    assert [job["jobState"] for job in admin.list()] == ["running"]
    assert count(database, "tags") == 0


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(statement_timeout=0.1, lock_timeout=20), "statement timeout"),
        (Limits(statement_timeout=20, lock_timeout=0.1), "lock timeout"),
    ],
    ids=["statement", "lock"],
)
def test_kind_of_timeout_is_in_the_log_only(
    app: Flask,
    admin: Client,
    config: Config,
    database: Database,
    *,
    caplog: pytest.LogCaptureFixture,
    limits: Limits,
    reason: str,
) -> None:
    with _served_by(app, Database(config.database.url, limits)), _jobs_locked(database):
        response = admin.send("GET", "/")
    assert_error(response, 503)
    assert "Retry-After" in response.headers
    assert reason in caplog.text
    assert reason not in response.text


def test_exhausted_pool_is_503(app: Flask, admin: Client, config: Config) -> None:
    crowded = Database(config.database.url, Limits(pool_size=1, pool_timeout=0.1))
    with _served_by(app, crowded), crowded.connection():
        assert_error(admin.send("GET", "/"), 503)


def test_terminated_connection_is_replaced(
    app: Flask, admin: Client, config: Config, database: Database
) -> None:
    single = Database(config.database.url, Limits(pool_size=1))
    with _served_by(app, single):
        assert admin.list() == []
        with single.connection() as conn:
            pid = conn.info.backend_pid
        with database.session() as conn:
            conn.execute("SELECT pg_terminate_backend(%s, 1000)", [pid])
        assert admin.list() == []


@pytest.mark.parametrize("host", ["a{b}c", "{0}", "%s", "a b", "é"])
def test_strange_host_header_is_not_a_server_error(app: Flask, host: str) -> None:
    response = app.test_client().get("/api/jobs/", headers={"Host": host})
    assert_error(response, response.status_code)
    assert response.status_code in {400, 401}


def test_error_writes_nothing(admin: Client, database: Database) -> None:
    for path in ("/stop_job/1", "/tag_job/1"):
        assert admin.send("POST", path, _TAGS if "tag" in path else stop()).status_code in {
            404,
            422,
        }
    assert_nothing_written(database)
