"""How long a body may be, and what it says of its length."""

import errno
import json
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from flask import Flask
from gunicorn.http.errors import InvalidChunkSize, NoMoreData

from ccapi.config import Config
from ccapi.db.pool import Database
from ccapi.model.token import Role
from tests.client import Client, assert_error, assert_nothing_written, job
from tests.conftest import client, serve

_LIMIT = 2000


@pytest.fixture
def limited(config: Config, database: Database) -> Client:
    """Speak to a service that takes small bodies only."""
    server = replace(config.server, max_body_bytes=_LIMIT)
    return client(serve(replace(config, server=server), database), database, Role.WRITER)


def _body_of(size: int) -> bytes:
    body = json.dumps(job()).encode()
    return body + b" " * (size - len(body))


def _send_chunked(client: Client, body: bytes) -> Any:
    return client.send(
        "POST",
        "/start_job/",
        input_stream=BytesIO(body),
        headers={"Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True},
    )


def test_body_of_exactly_the_limit_is_accepted(limited: Client) -> None:
    assert limited.send("POST", "/start_job/", _body_of(_LIMIT)).status_code == 201


def test_chunked_body_of_exactly_the_limit_is_accepted(limited: Client) -> None:
    assert _send_chunked(limited, _body_of(_LIMIT)).status_code == 201


@pytest.mark.parametrize("excess", [1, 2, 100_000])
def test_body_over_the_limit_is_refused(limited: Client, database: Database, excess: int) -> None:
    response = limited.send("POST", "/start_job/", _body_of(_LIMIT + excess))
    assert_error(response, 413, str(_LIMIT))
    assert_nothing_written(database)


@pytest.mark.parametrize("excess", [1, 2, 100_000])
def test_chunked_body_over_the_limit_is_refused(
    limited: Client, database: Database, excess: int
) -> None:
    assert_error(_send_chunked(limited, _body_of(_LIMIT + excess)), 413, str(_LIMIT))
    assert_nothing_written(database)


@pytest.mark.parametrize("length", ["x", "1.5", "-5"])
def test_invalid_content_length_is_refused(writer: Client, database: Database, length: str) -> None:
    environ = {"CONTENT_LENGTH": length}
    response = writer.send("POST", "/start_job/", job(), environ_overrides=environ)
    assert_error(response, 400, "body")
    assert_nothing_written(database)


class FailingStream(BytesIO):
    """A body whose reading fails."""

    def __init__(self, error: Exception) -> None:
        super().__init__(json.dumps(job()).encode())
        self.error = error

    def read(self, *_: Any) -> bytes:
        raise self.error

    readline = readinto = read  # type: ignore[assignment] # whatever reads it, fails


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MemoryError(), 500),
        (AttributeError("a bug"), 500),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), 400),
        (NoMoreData(b""), 400),
        (InvalidChunkSize(b"x"), 400),
    ],
    ids=lambda value: type(value).__name__,
)
def test_our_failure_to_read_a_body_is_no_4xx(
    writer: Client, database: Database, error: Exception, status: int
) -> None:
    response = writer.send(
        "POST", "/start_job/", input_stream=FailingStream(error),
        headers={"Content-Length": "100"},
    )  # fmt: skip
    assert_error(response, status)
    assert_nothing_written(database)


def test_default_limit_is_8_mib(app: Flask, writer: Client) -> None:
    assert app.config["MAX_CONTENT_LENGTH"] == 8 * 1024 * 1024
    assert writer.send("POST", "/start_job/", _body_of(8 * 2**20)).status_code == 201
    assert_error(writer.send("POST", "/start_job/", _body_of(8 * 2**20 + 1)), 413)
