"""Tokens and roles are checked before any other part of a request."""

import logging
import time
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from ccapi.config import Config
from ccapi.db.pool import Database
from ccapi.model.token import TOKEN_TTL_SECONDS, Role
from ccapi.service import tokens
from tests.client import START, Client, assert_error, assert_nothing_written, job, stop
from tests.conftest import client, serve

# Every operation with its aliases, what it takes, and the min_role role that may call it.
OPERATIONS: dict[str, tuple[str, str, Any, Role]] = {
    "list": ("GET", "/", None, Role.READER),
    "start": ("POST", "/start_job/", job(jobId=5), Role.WRITER),
    "start, PUT": ("PUT", "/start_job/", job(jobId=5), Role.WRITER),
    "stop": ("POST", "/stop_job/", stop(), Role.WRITER),
    "stop, PUT": ("PUT", "/stop_job/", stop(), Role.WRITER),
    "stop by id": ("POST", "/stop_job/{id}", stop(), Role.WRITER),
    "stop by id, PUT": ("PUT", "/stop_job/{id}", stop(), Role.WRITER),
    "tag": ("POST", "/tag_job/{id}", [{"type": "a", "name": "b"}], Role.WRITER),
    "tag, PATCH": ("PATCH", "/tag_job/{id}", [{"type": "a", "name": "b"}], Role.WRITER),
    "delete": ("DELETE", "/delete_job/", {"jobId": 123000}, Role.ADMIN),
    "delete by id": ("DELETE", "/delete_job/{id}", None, Role.ADMIN),
    "delete before": ("DELETE", f"/delete_job_before/{START + 1}", None, Role.ADMIN),
}
every_operation = pytest.mark.parametrize("operation", OPERATIONS)


def _get(app: Flask, **headers: str) -> TestResponse:
    """List jobs with these headers only, "_" in a name meaning "-"."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return app.test_client().get("/api/jobs/", headers=named)


@pytest.fixture
def secret(database: Database) -> str:
    """Make a token."""
    return tokens.create(database, "hook", Role.READER)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_bearer_token_is_accepted(app: Flask, secret: str, scheme: str) -> None:
    assert _get(app, Authorization=f"{scheme} {secret}").status_code == 200


def test_x_auth_token_is_accepted(app: Flask, secret: str) -> None:
    assert _get(app, X_Auth_Token=secret).status_code == 200


MALFORMED = {
    "no header": {},
    "empty token": {"X-Auth-Token": ""},
    "empty authorization": {"Authorization": ""},
    "bearer of nothing": {"Authorization": "Bearer "},
    "no scheme": {"Authorization": "{secret}"},
    "basic": {"Authorization": "Basic dXNlcjpwYXNz"},
    "token scheme": {"Authorization": "Token {secret}"},
    "token with its scheme": {"X-Auth-Token": "Bearer {secret}"},
    "unknown": {"X-Auth-Token": "ccapi_" + "x" * 43},
    "other case": {"X-Auth-Token": "CCAPI_{secret}"},
    "cut off": {"X-Auth-Token": "ccapi_x"},
    "two tokens": {"X-Auth-Token": "{secret} {secret}"},
    "non-ASCII": {"X-Auth-Token": "ccapi_é" + "x" * 42},
    "SQL": {"X-Auth-Token": "' OR true --"},
    "huge": {"X-Auth-Token": "ccapi_" + "x" * 1_000_000},
    "huge bearer": {"Authorization": "Bearer " + "x" * 1_000_000},
}


@pytest.mark.parametrize("headers", MALFORMED.values(), ids=MALFORMED)
def test_missing_or_invalid_token_is_401(app: Flask, secret: str, headers: dict[str, str]) -> None:
    headers = {name: value.replace("{secret}", secret) for name, value in headers.items()}
    response = app.test_client().get("/api/jobs/", headers=headers)
    assert_error(response, 401, "token", "X-Auth-Token", "Bearer")
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_expired_token_is_refused(app: Flask, database: Database) -> None:
    secret = tokens.create(database, "hook", Role.ADMIN, timedelta(hours=1))
    with database.connection() as conn:
        conn.execute("UPDATE tokens SET expires_at = now() - interval '1 second'")
    assert_error(_get(app, X_Auth_Token=secret), 401, "expired")


def test_token_in_use_is_refused_when_it_expires(app: Flask, database: Database) -> None:
    secret = tokens.create(database, "hook", Role.ADMIN, timedelta(seconds=0.5))
    assert _get(app, X_Auth_Token=secret).status_code == 200
    time.sleep(0.5)
    assert_error(_get(app, X_Auth_Token=secret), 401, "expired")


def test_token_in_use_is_refused_when_it_is_revoked(
    app: Flask, database: Database, secret: str
) -> None:
    assert _get(app, X_Auth_Token=secret).status_code == 200
    tokens.revoke(database, "hook")
    assert_error(_get(app, X_Auth_Token=secret), 401, "revoked")


def test_rotated_token_is_valid_until_it_expires(
    app: Flask, database: Database, secret: str
) -> None:
    second = tokens.rotate(database, "hook", grace=timedelta(seconds=0.5))
    assert _get(app, X_Auth_Token=secret).status_code == 200
    assert _get(app, X_Auth_Token=second).status_code == 200
    time.sleep(0.5)
    assert_error(_get(app, X_Auth_Token=secret), 401)
    assert _get(app, X_Auth_Token=second).status_code == 200


def test_second_rotation_revokes_the_first_token(
    app: Flask, database: Database, secret: str
) -> None:
    second = tokens.rotate(database, "hook", grace=timedelta(days=1))
    third = tokens.rotate(database, "hook", grace=timedelta(days=1))
    answers = [_get(app, X_Auth_Token=token).status_code for token in (secret, second, third)]
    assert answers == [401, 200, 200]


@every_operation
def test_every_operation_needs_a_token(app: Flask, admin: Client, operation: str) -> None:
    method, path, body, _ = OPERATIONS[operation]
    id_ = admin.start()
    nobody = Client(app.test_client(), "ccapi_" + "x" * 43)
    before = admin.list()
    assert_error(nobody.send(method, path.format(id=id_), body), 401)
    assert _states(admin.list()) == _states(before)


@every_operation
@pytest.mark.parametrize("role", Role)
def test_role_permits_its_operations_only(
    app: Flask, database: Database, operation: str, role: Role
) -> None:
    method, path, body, min_role = OPERATIONS[operation]
    admin = client(app, database, Role.ADMIN)
    id_ = admin.start()
    asking = admin if role is Role.ADMIN else client(app, database, role)
    before = admin.list()
    response = asking.send(method, path.format(id=id_), body)
    if role.includes(min_role):
        assert response.status_code in {200, 201}, response.text
    else:
        assert_error(response, 403, f"role {min_role}", f"is a {role}")
        assert _states(admin.list()) == _states(before)


def _states(jobs: list[dict[str, Any]]) -> list[tuple[int, str, list[Any]]]:
    return [(job["id"], job["jobState"], job["tags"]) for job in jobs]


class _Unreadable(BytesIO):
    """A body that nobody may read yet."""

    def read(self, *_: Any) -> bytes:
        raise AssertionError("the body was read")

    readinto = read1 = readline = read  # type: ignore[assignment]


_UNREAD = {"wsgi.input": _Unreadable(), "CONTENT_LENGTH": "100"}


@every_operation
def test_missing_token_is_refused_before_the_body_is_read(app: Flask, operation: str) -> None:
    method, path, *_ = OPERATIONS[operation]
    nobody = Client(app.test_client(), "ccapi_" + "x" * 43)
    response = nobody.send(method, path.format(id=1), environ_overrides=_UNREAD)
    assert_error(response, 401)


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name != "list"])
def test_missing_role_is_refused_before_the_body_is_read(reader: Client, operation: str) -> None:
    method, path, *_ = OPERATIONS[operation]
    assert_error(reader.send(method, path.format(id=1), environ_overrides=_UNREAD), 403)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b" " * 5000], ids=["none", "cut off", "no UTF-8", "oversized"]
)
def test_invalid_token_is_401_with_any_body(
    config: Config, database: Database, body: bytes
) -> None:
    app = serve(replace(config, server=replace(config.server, max_body_bytes=1024)), database)
    asking = Client(app.test_client(), "no token")
    assert_error(asking.send("POST", "/start_job/", body), 401)
    assert_nothing_written(database)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/stop_job/word"),
        ("POST", "/tag_job/1.5"),
        ("DELETE", "/delete_job/9223372036854775808"),
        ("DELETE", "/delete_job_before/yesterday"),
        ("GET", "/?page=0"),
        ("GET", "/?unknown=1"),
        ("POST", "/start_job/?unknown=1"),
    ],
)
def test_bad_path_is_401_403_or_400_in_this_order(
    app: Flask, reader: Client, admin: Client, method: str, path: str
) -> None:
    assert_error(Client(app.test_client(), "no token").send(method, path), 401)
    if method != "GET":
        assert_error(reader.send(method, path), 403)
    assert_error(admin.send(method, path), 400)


def _last_use(database: Database) -> list[Any]:
    with database.connection() as conn:
        return conn.execute("SELECT last_used_at, xmin::text FROM tokens").fetchall()


def test_first_use_of_a_token_is_recorded(app: Flask, database: Database, secret: str) -> None:
    assert _last_use(database)[0][0] is None
    _get(app, X_Auth_Token=secret)
    assert _last_use(database)[0][0] is not None


def test_frequent_use_is_not_recorded_each_time(
    app: Flask, database: Database, secret: str
) -> None:
    _get(app, X_Auth_Token=secret)
    first = _last_use(database)
    for _ in range(5):
        _get(app, X_Auth_Token=secret)
    assert _last_use(database) == first


def test_later_use_is_recorded_again(app: Flask, database: Database, secret: str) -> None:
    with database.connection() as conn:
        conn.execute("UPDATE tokens SET last_used_at = now() - interval '2 minutes'")
    before = _last_use(database)
    _get(app, X_Auth_Token=secret)
    assert _last_use(database)[0][0] > before[0][0] + timedelta(minutes=1)


def test_request_does_not_wait_for_recording_the_use(
    app: Flask, database: Database, secret: str
) -> None:
    with database.session() as conn, conn.transaction():
        conn.execute("SELECT FROM tokens FOR UPDATE")
        began = time.monotonic()
        assert _get(app, X_Auth_Token=secret).status_code == 200
    assert time.monotonic() - began < 2


def test_token_is_stored_as_a_digest_only(database: Database, secret: str) -> None:
    with database.connection() as conn:
        stored = conn.execute("SELECT tokens::text, digest FROM tokens").fetchone()
    assert stored is not None
    assert secret not in stored[0]
    assert secret.removeprefix("ccapi_").encode() not in stored[1]


def test_token_is_never_logged(
    app: Flask, database: Database, secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = "ccapi_" + "w" * 43
    for token in (secret, wrong):
        for headers in ({"X-Auth-Token": token}, {"Authorization": f"Bearer {token}"}):
            http = app.test_client()
            http.get("/api/jobs/", headers=headers)
            http.post("/api/jobs/start_job/", headers=headers, data=b"{")
            http.get("/api/nothing", headers=headers)
    time.sleep(TOKEN_TTL_SECONDS)
    with database.session() as conn:
        conn.execute("ALTER TABLE tokens RENAME TO tokens_away")
    try:
        assert _get(app, X_Auth_Token=secret).status_code == 500
    finally:
        with database.session() as conn:
            conn.execute("ALTER TABLE tokens_away RENAME TO tokens")
    assert "Traceback" in caplog.text
    for token in (secret, wrong):
        assert token not in caplog.text
        assert token.removeprefix("ccapi_") not in caplog.text


def test_error_does_not_repeat_the_token(app: Flask) -> None:
    wrong = "ccapi_" + "w" * 43
    assert wrong not in _get(app, X_Auth_Token=wrong).text
