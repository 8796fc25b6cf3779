"""Many pollers, one question: readers share a list for a moment, writers read fresh."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from ccapi import logs, metrics
from ccapi.config import Config
from ccapi.db.pool import Database
from ccapi.http.cache import TTLCache
from ccapi.model.token import Role
from ccapi.repository import job_list
from ccapi.service import tokens
from tests.client import START, Client, assert_error, at_once
from tests.conftest import client, serve

# No test is so slow that the period ends within it.
_LONG = 30.0
_LIST = "/?state=running"


@pytest.fixture
def app(config: Config, database: Database) -> Flask:
    """Serve with a period in which everything is shared."""
    return serve(replace(config, jobs=replace(config.jobs, list_cache_seconds=_LONG)), database)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Record each query of a list."""
    calls: list[Any] = []
    real = job_list.list_page

    def list_page(*args: Any, **kwargs: Any) -> Any:
        calls.append(args[1])
        time.sleep(0.05)
        return real(*args, **kwargs)

    monkeypatch.setattr(job_list, "list_page", list_page)
    return calls


def ids(response: TestResponse) -> list[int]:
    assert response.status_code == 200, response.text
    return [job["id"] for job in response.get_json()["jobs"]]


def test_same_query_of_readers_is_answered_from_the_cache(
    reader: Client, admin: Client, asked: list[Any]
) -> None:
    first = reader.send("GET", _LIST)
    admin.start()
    assert [reader.send("GET", _LIST).data for _ in range(5)] == [first.data] * 5
    assert len(asked) == 1


def test_readers_with_different_tokens_share_the_cache(
    reader: Client, database: Database, asked: list[Any]
) -> None:
    secret = tokens.create(database, "wall", Role.READER)
    wall = Client(reader.http, secret)
    assert reader.send("GET", _LIST).data == wall.send("GET", _LIST).data
    assert len(asked) == 1


@pytest.mark.parametrize("role", [Role.WRITER, Role.ADMIN])
def test_writers_get_fresh_responses(
    app: Flask, database: Database, reader: Client, role: Role
) -> None:
    asking = client(app, database, role)
    for number in range(1, 4):
        reader.send("GET", _LIST)
        id_ = asking.start(jobId=number)
        assert id_ in ids(asking.send("GET", _LIST))


def test_different_query_is_not_answered_from_the_cache(reader: Client, admin: Client) -> None:
    reader.send("GET", _LIST)
    id_ = admin.start()
    assert ids(reader.send("GET", "/?state=completed")) == []
    assert ids(reader.send("GET", f"{_LIST}&cluster=fritz")) == [id_]


@pytest.mark.parametrize("seconds", [0.0, 0.2])
def test_response_expires(
    config: Config, database: Database, admin: Client, seconds: float
) -> None:
    brief = replace(config, jobs=replace(config.jobs, list_cache_seconds=seconds))
    reader = client(serve(brief, database), database, Role.READER)
    assert ids(reader.send("GET", _LIST)) == []
    id_ = admin.start()
    time.sleep(seconds)
    assert ids(reader.send("GET", _LIST)) == [id_]


def test_concurrent_readers_cause_one_query(reader: Client, asked: list[Any]) -> None:
    reader.send("GET", "/?state=failed")
    asked.clear()
    twins = [reader.twin() for _ in range(12)]
    answers = at_once([partial(twin.send, "GET", _LIST) for twin in twins])
    assert {answer.status_code for answer in answers} == {200}
    assert len(asked) == 1


def test_error_is_not_cached(
    reader: Client, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert database
    with monkeypatch.context() as broken:
        broken.setattr(job_list, "_SQL", {})
        assert_error(reader.send("GET", _LIST), 500)
    assert ids(reader.send("GET", _LIST)) == []


def test_invalid_query_is_refused_each_time(reader: Client) -> None:
    for _ in range(2):
        assert_error(reader.send("GET", "/?page=0"), 400, "page: ")


def test_long_page_with_few_jobs_is_cached(reader: Client, admin: Client, asked: list[Any]) -> None:
    admin.start()
    query = f"{_LIST}&items-per-page=9999999&page=1&with-metadata=false"
    answers = [reader.send("GET", query) for _ in range(3)]
    assert {answer.data for answer in answers} == {answers[0].data}
    assert len(asked) == 1


def test_stream_is_not_cached(
    reader: Client, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccapi.api.job_list._BATCH_SIZE", 1)
    started = [admin.start(jobId=number) for number in (1, 2)]
    assert ids(reader.send("GET", "/?items-per-page=9")) == started[::-1]
    started.append(admin.start(jobId=3))
    response = reader.send("GET", "/?items-per-page=9")
    assert ids(response) == started[::-1]
    assert "ETag" not in response.headers
    assert response.headers["Cache-Control"] == "private, no-cache"


@pytest.mark.parametrize("role", Role)
def test_matching_etag_is_answered_304(app: Flask, database: Database, role: Role) -> None:
    admin = client(app, database, Role.ADMIN)
    id_ = admin.start()
    admin.send("POST", f"/stop_job/{id_}", {"stopTime": START + 5, "jobState": "failed"})
    asking = admin if role is Role.ADMIN else client(app, database, role)
    first = asking.send("GET", "/")
    etag = first.headers["ETag"]
    for header in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        response = asking.send("GET", "/", headers={"If-None-Match": header})
        assert (response.status_code, response.data) == (304, b"")
        assert response.headers["ETag"] == etag
        for name in ("Cache-Control", "Vary"):
            assert response.headers[name] == first.headers[name]
        assert "Content-Type" not in response.headers
    for header in ('"other"', "", etag[1:-2]):
        response = asking.send("GET", "/", headers={"If-None-Match": header})
        assert (response.status_code, response.data) == (200, first.data)


def test_etag_changes_with_the_body(admin: Client) -> None:
    empty = admin.send("GET", "/").headers["ETag"]
    admin.start()
    response = admin.send("GET", "/", headers={"If-None-Match": empty})
    assert response.status_code == 200
    assert response.headers["ETag"] != empty


def test_response_is_private(reader: Client) -> None:
    headers = reader.send("GET", "/").headers
    assert headers["Cache-Control"] == "private, no-cache"
    assert headers["Vary"] == "X-Auth-Token, Authorization, Accept"


def test_cache_needs_a_valid_token(app: Flask, reader: Client) -> None:
    reader.send("GET", _LIST)
    assert_error(app.test_client().get(f"/api/jobs{_LIST}"), 401)
    assert_error(Client(reader.http, reader.token[:-1] + "_").send("GET", _LIST), 401)


def test_cache_refuses_revoked_token(reader: Client, database: Database) -> None:
    assert reader.send("GET", _LIST).status_code == 200
    tokens.revoke(database, "test-reader")
    assert_error(reader.send("GET", _LIST), 401)


def test_cached_reader_token_may_not_write(reader: Client) -> None:
    reader.send("GET", _LIST)
    assert_error(reader.send("POST", "/start_job/", {}), 403)


@pytest.mark.parametrize("path", ["/{id}", _LIST, "/?format=csv", "/?fields=jobId"])
@pytest.mark.parametrize("known", ["", "*"])
def test_cached_response_is_sent_and_logged_like_the_first(
    reader: Client, admin: Client, caplog: pytest.LogCaptureFixture, path: str, known: str
) -> None:
    path, headers = path.format(id=admin.start()), {"If-None-Match": known}
    caplog.set_level("INFO", "ccapi.request")
    caplog.clear()
    answers = [reader.send("GET", path, headers=headers) for _ in range(3)]
    assert {(answer.status, answer.data) for answer in answers} == {
        (answers[0].status, answers[0].data)
    }
    sent = [dict(answer.headers) for answer in answers]
    names = {each.pop("X-Request-Id") for each in sent}
    assert (len(names), sent) == (3, sent[:1] * 3)
    logged = [record.__dict__["fields"] for record in caplog.records]
    assert [fields.pop("seconds") >= 0 for fields in logged] == [True] * 3
    assert logged == logged[:1] * 3


def test_cached_response_has_the_proxys_request_id(reader: Client) -> None:
    for _ in range(2):
        answer = reader.send("GET", _LIST, headers={"X-Request-Id": "abcd-0123"})
        assert answer.headers["X-Request-Id"] == "abcd-0123"
        assert logs.request_id.get() is None


def test_cached_response_is_counted(reader: Client, asked: list[Any]) -> None:
    counted = metrics.REQUESTS.labels("list_jobs", 200)
    before = counted._value.get()
    for _ in range(2):
        reader.send("GET", _LIST)
    assert counted._value.get() - before == 2
    assert len(asked) == 1


def test_head_request_has_no_body(reader: Client) -> None:
    reader.send("GET", _LIST)
    response = reader.send("HEAD", _LIST)
    assert (response.status_code, response.data) == (200, b"")


def make(value: str) -> Callable[[], str]:
    return lambda: value


def test_cache_is_bounded_and_drops_the_oldest() -> None:
    shared: TTLCache[str] = TTLCache(_LONG, max_size=100)
    for number in range(1000):
        shared.get_or_compute(number, make("x" * 10), len)
    assert [number for number in range(1000) if shared.get(number)] == list(range(990, 1000))


def test_expired_values_are_dropped() -> None:
    shared: TTLCache[str] = TTLCache(0.05, max_size=100)
    for number in range(5):
        shared.put(number, "x" * 10, time.monotonic(), 10)
    time.sleep(0.1)
    shared.put("new", "x", time.monotonic(), 1)
    assert (list(shared._entries), shared._size) == (["new"], 1)


def test_long_addresses_count_as_a_part_of_the_cache(reader: Client) -> None:
    responses = reader.http.application.extensions["ccapi_caches"].responses
    assert reader.send("GET", "/?items-per-page=1").status_code == 200
    before = responses._size
    assert reader.send("GET", f"/?items-per-page=1&project={'x' * 200}").status_code == 200
    assert responses._size - before > before + 200


def test_value_over_the_maximum_size_is_not_cached() -> None:
    shared: TTLCache[str] = TTLCache(_LONG, max_size=100)
    shared.get_or_compute("small", make("x"), len)
    assert shared.get_or_compute("large", make("x" * 101), len) == "x" * 101
    assert shared.get("large") is None
    assert shared.get("small") == "x"


def test_value_is_as_old_as_the_start_of_its_computation() -> None:
    shared: TTLCache[str] = TTLCache(0.2, max_size=100)

    def slowly() -> str:
        time.sleep(0.2)
        return "old"

    assert shared.get_or_compute("key", slowly, len) == "old"
    assert shared.get_or_compute("key", make("new"), len) == "new"
