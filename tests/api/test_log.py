"""What a request leaves in the log, and what it never does."""

import io
import json
import logging
import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask import Flask

from ccapi import logs
from ccapi.db.pool import Database
from ccapi.errors import DatabaseUnavailable
from ccapi.http import request_log
from ccapi.repository import jobs
from tests.client import Client, job, stop

TOKEN = "ccapi_" + 43 * "x"
JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"


class Log:
    """Reads what was logged as JSON since it began."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def requests(self) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["logger"] == "ccapi.request"]


@pytest.fixture
def log() -> Iterator[Log]:
    yield from logged(logs.JsonFormatter())


def logged(formatter: logging.Formatter) -> Iterator[Log]:
    log = Log()
    handler = logging.StreamHandler(log.stream)
    handler.setFormatter(formatter)
    logging.getLogger().addHandler(handler)
    yield log
    logging.getLogger().removeHandler(handler)


def test_request_is_one_line_with_token_job_and_status(writer: Client, log: Log) -> None:
    id_ = writer.start()
    [line] = log.lines()
    assert datetime.fromisoformat(line.pop("time")).utcoffset() == timedelta(0)
    assert 0 < line.pop("seconds") < 60
    assert len(line.pop("request_id")) == 32
    assert line == {
        "level": "INFO",
        "logger": "ccapi.request",
        "message": "start_job 201",
        "method": "POST",
        "endpoint": "start_job",
        "status": 201,
        "token": "test-writer",
        "job": id_,
    }


def test_operations_on_a_job_log_its_database_id(admin: Client, log: Log) -> None:
    id_ = admin.start()
    assert admin.send("POST", "/start_job/", job()).status_code == 422
    assert admin.send("PATCH", f"/tag_job/{id_}", [{"type": "a", "name": "b"}]).status_code == 200
    admin.stop()
    assert admin.send("PUT", f"/stop_job/{id_}", stop()).status_code == 422
    assert admin.send("DELETE", "/delete_job/", {"jobId": 123000}).status_code == 200
    assert [(line["endpoint"], line["job"]) for line in log.requests()] == [
        ("start_job", id_),
        ("start_job", id_),
        ("tag_job", id_),
        ("stop_job", id_),
        ("stop_job_by_id", id_),
        ("delete_job", id_),
    ]


def test_unknown_field_is_logged_once_per_client(
    admin: Client, writer: Client, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_log, "_logged_fields", set())

    def warnings() -> list[str]:
        lines = [line["message"] for line in log.requests() if line["level"] == "WARNING"]
        log.stream.truncate(0)
        log.stream.seek(0)
        return lines

    for number in range(3):
        writer.start(jobId=number + 1, colour="blue", größe=1)
    assert warnings() == [
        "start_job of test-writer: ignored unknown fields: colour, gr%C3%B6%C3%9Fe"
    ]
    writer.start(jobId=4, colour="red", weight=5)
    assert warnings() == ["start_job of test-writer: ignored unknown fields: weight"]
    writer.stop(jobId=4, colour="red")
    assert warnings() == ["stop_job of test-writer: ignored unknown fields: colour"]
    admin.start(jobId=5, colour="red")
    assert warnings() == ["start_job of test-admin: ignored unknown fields: colour"]


def test_log_of_unknown_fields_is_bounded(
    writer: Client, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_log, "_logged_fields", set())
    monkeypatch.setattr(request_log, "_MAX_LOGGED_FIELDS", 30)
    for number in range(5):
        writer.start(jobId=number + 1, **{f"{'x' * 100}{number}-{n}"[-90:]: n for n in range(99)})
    warnings = [line for line in log.requests() if line["level"] == "WARNING"]
    assert len(warnings) == 2
    assert all(len(line["message"]) < 20 * 70 for line in warnings)


def test_refusal_has_its_reason(app: Flask, reader: Client, log: Log) -> None:
    reader.send("POST", "/start_job/", job())
    reader.send("GET", "/?page=0")
    reader.send("PUT", "/")
    app.test_client().get("/nothing/" + TOKEN)
    assert [(line["endpoint"], line["refusal"]) for line in log.requests()] == [
        ("start_job", "Forbidden"),
        ("list_jobs", "InvalidInput"),
        ("unknown", "MethodNotAllowed"),
        ("unknown", "NotFound"),
    ]


@pytest.mark.parametrize("id_", ["0123456789abcdef" * 2, "8d3e0a3c-13a0-4a5c-9d6e-0f7b5d1c2e3f"])
def test_request_id_of_the_proxy_is_used(writer: Client, log: Log, id_: str) -> None:
    response = writer.send("POST", "/start_job/", job(), headers={"X-Request-Id": id_})
    assert response.headers["X-Request-Id"] == id_
    assert [line["request_id"] for line in log.lines()] == [id_]


@pytest.mark.parametrize("id_", ["", "short", "a" * 65, "12345678\t", 'a"bcdefgh', TOKEN, "é" * 9])
def test_invalid_request_id_is_replaced(writer: Client, log: Log, id_: str) -> None:
    response = writer.send("GET", "/", headers={"X-Request-Id": id_.encode().decode("latin-1")})
    assert response.headers["X-Request-Id"] != id_
    assert [line["request_id"] for line in log.lines()] == [response.headers["X-Request-Id"]]


def test_request_id_is_in_lines_of_its_request_only(admin: Client, log: Log, config: Any) -> None:
    admin.start()
    (config.archive.root / "fritz").write_bytes(b"in the way")
    admin.stop()
    error, request = log.lines()[-2:]
    assert "archiving job" in error["message"]
    assert error["request_id"] == request["request_id"]
    logging.getLogger("ccapi").warning("later")
    assert "request_id" not in log.lines()[-1]


def test_server_failure_is_one_more_line_with_traceback(
    writer: Client, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_SQL", {})
    assert writer.send("POST", "/start_job/", job()).status_code == 500
    failure, request = log.lines()
    assert failure["level"] == "ERROR"
    assert failure["traceback"].startswith("Traceback")
    assert "KeyError: 'insert_job'" in failure["traceback"]
    assert (request["status"], request["request_id"]) == (500, failure["request_id"])


def test_stream_is_logged_at_its_end(
    reader: Client, writer: Client, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        writer.start(jobId=number)
    monkeypatch.setattr("ccapi.api.job_list._BATCH_SIZE", 1)
    log.stream.truncate(0)
    log.stream.seek(0)
    response = reader.send("GET", "/?items-per-page=100000")
    assert log.lines() == []
    response.get_data()
    response.close()
    assert [line["endpoint"] for line in log.lines()] == ["list_jobs"]


def test_stream_that_fails_is_logged(
    reader: Client, writer: Client, database: Database, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2, 3):
        writer.start(jobId=number)
    monkeypatch.setattr("ccapi.api.job_list._BATCH_SIZE", 1)
    response = reader.send("GET", "/?items-per-page=100000", buffered=False)
    with database.session() as conn:
        conn.execute(
            "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
            " WHERE state = 'idle in transaction'"
        )
    with pytest.raises(DatabaseUnavailable):
        list(response.response)
    response.close()
    assert [line["endpoint"] for line in log.requests()][-1] == "list_jobs"


def test_probes_are_logged_at_level_debug(
    app: Flask, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    app.test_client().get("/healthz")
    assert log.lines() == []
    caplog.set_level("DEBUG", "ccapi")
    app.test_client().get("/healthz")
    assert [line["endpoint"] for line in log.requests()] == ["healthz"]


SECRETS = [TOKEN, TOKEN[:20], JWT, "hunter2-geheim"]
HEADERS = [
    ("X-Auth-Token", "{}"),
    *(("Authorization", f"{scheme} {{}}") for scheme in ("Bearer", "bearer", "Basic", "Token")),
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("formatter", [logs.JsonFormatter(), logs.TextFormatter()])
def test_secrets_of_requests_are_never_logged(
    app: Flask,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    *,
    secret: str,
    formatter: logging.Formatter,
) -> None:
    caplog.set_level("DEBUG")
    for log in logged(formatter):
        http = app.test_client()
        for name, value in HEADERS:
            http.get("/api/jobs/", headers={name: value.format(secret)})
        http.get(f"/api/jobs/?token={secret}")
        http.get(f"/api/jobs/{secret}", headers={"X-Request-Id": secret.replace("_", "")[:5]})
        http.post(f"/api/jobs/stop_job/{secret}", data=secret)
        http.open("/api/jobs/", method=secret.replace("_", ""))
        monkeypatch.setattr("ccapi.http.auth.tokens", None)
        assert http.get("/api/jobs/", headers={"X-Auth-Token": secret}).status_code == 500
        said = log.stream.getvalue()
    assert "Traceback" in said
    assert secret not in said
    assert secret.replace("_", "") not in said


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://ccapi:geheim@db/ccapi is down",
        "conninfo 'host=db password=geheim dbname=x'",
        "Authorization: Bearer geheim",
        "authorization: basic geheim",
    ],
)
def test_secrets_in_messages_are_masked(log: Log, text: str) -> None:
    logging.getLogger("ccapi").warning("%s", text)
    try:
        raise ValueError(text)
    except ValueError:
        logging.getLogger("ccapi").exception("failed")
    assert "geheim" not in log.stream.getvalue()
    assert "********" in log.lines()[0]["message"]


def test_port_of_an_address_is_no_secret(log: Log) -> None:
    text = "Listening at: http://127.0.0.1:8080 (1234); mail root@example.org"
    logging.getLogger("ccapi").warning("%s", text)
    assert log.lines()[0]["message"] == text


def test_file_name_with_invalid_unicode_is_logged_as_json() -> None:
    # Formatted here and not logged: pytest keeps what is logged, and cannot send it on.
    name = os.fsdecode(b"/archive/\xff")
    record = logging.LogRecord("ccapi", logging.WARNING, "", 0, "cannot read %s", (name,), None)
    line = json.loads(logs.JsonFormatter().format(record))
    assert line["message"] == "cannot read /archive/\udcff"


def test_password_of_the_database_is_never_logged(config: Any, log: Log) -> None:
    for url in ("postgresql://u:geheim@127.0.0.1:1/x", "host=127.0.0.1 port=1 password=geheim"):
        Database(url).close()
        logging.getLogger("ccapi").error("%s %r", config, Database(url))
    assert "geheim" not in log.stream.getvalue()


def test_text_format_is_readable(writer: Client) -> None:
    for log in logged(logs.TextFormatter()):
        id_ = writer.start()
        assert "INFO ccapi.request: start_job 201 method=POST" in log.stream.getvalue()
        assert f" job={id_} " in log.stream.getvalue()


@pytest.mark.parametrize(
    ("style", "terminal", "expected"),
    [
        ("auto", True, logs.TextFormatter),
        ("auto", False, logs.JsonFormatter),
        ("json", True, logs.JsonFormatter),
        ("text", False, logs.TextFormatter),
    ],
)
def test_format_depends_on_setting_and_terminal(
    style: str, *, terminal: bool, expected: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = logging.StreamHandler()
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    logs.configure("INFO", style)
    assert type(handler.formatter) is expected
