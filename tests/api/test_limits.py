"""Limits of what a token may use, and of requests with unknown tokens."""

import logging
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask

from ccapi.config import Config, Limits
from ccapi.db.budgets import Budgets
from ccapi.db.pool import Database
from ccapi.errors import TooManyRequests
from ccapi.http.cache import MAX_UNKNOWN_TOKENS
from ccapi.model.token import Role
from tests import conftest
from tests.client import Client, assert_error, job
from tests.processes import Service, gunicorn


@pytest.fixture
def frugal(config: Config, database: Database) -> Flask:
    """Serve with a budget that one list uses up."""
    return conftest.serve(replace(config, limits=Limits(database_seconds=0.001)), database)


def list_until_refused(client: Client) -> None:
    for _ in range(100):
        response = client.send("GET", "/?total=true")
        if response.status_code != 200:
            break
    assert_error(response, 429, "try again")
    assert 1 <= int(response.headers["Retry-After"]) <= 60


def test_token_that_has_used_its_database_seconds_is_429(frugal: Flask, database: Database) -> None:
    writer = conftest.client(frugal, database, Role.WRITER)
    list_until_refused(writer)
    assert writer.send("POST", "/start_job/", job()).status_code == 201
    assert_error(writer.send("GET", "/stats/"), 429)


def test_other_tokens_have_budgets_of_their_own(frugal: Flask, database: Database) -> None:
    list_until_refused(conftest.client(frugal, database, Role.READER))
    assert conftest.client(frugal, database, Role.WRITER).send("GET", "/").status_code == 200


def test_budget_is_for_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [6_000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    budgets = Budgets(1)
    budgets.begin(7)
    budgets._charge(7, 0.6)
    budgets._charge(7, 0.6)
    with pytest.raises(TooManyRequests) as refused:
        budgets.begin(7)
    assert refused.value.retry_after == 60
    budgets.begin(8)
    now[0] += 60
    budgets.begin(7)


@pytest.mark.slow
def test_workers_charge_the_same_budget(
    config: Config, database: Database, reader: Client, tmp_path: Path
) -> None:
    settings = {
        "CCAPI_DATABASE_URL": config.database.url,
        "CCAPI_ARCHIVE_ROOT": str(config.archive.root),
        "CCAPI_JOBS_LIST_CACHE_SECONDS": "0",
        "CCAPI_LIMITS_DATABASE_SECONDS": "0.05",
    }

    def status(service: Service) -> int:
        request = urllib.request.Request(f"{service.url}/", headers={"X-Auth-Token": reader.token})
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code

    with gunicorn(settings, tmp_path, workers=4) as service:
        deadline = time.monotonic() + 60
        while status(service) != 429:
            assert time.monotonic() < deadline
        if time.time() % 60 < 50:  # The minute does not end meanwhile.
            assert {status(service) for _ in range(20)} == {429}


def test_unknown_tokens_are_looked_up_a_few_times_a_second(
    app: Flask, reader: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccapi.http.cache.time.monotonic", lambda: 1_000.0)
    app.extensions["ccapi_caches"].tokens._ttl = 0
    assert reader.send("GET", "/").status_code == 200
    strangers = [
        Client(reader.http, f"ccapi_{number:043}").send("GET", "/")
        for number in range(MAX_UNKNOWN_TOKENS + 1)
    ]
    assert {response.status_code for response in strangers[:-1]} == {401}
    assert_error(strangers[-1], 429, "unknown token")
    assert strangers[-1].headers["Retry-After"] == "1"
    assert reader.send("GET", "/").status_code == 200


def test_requests_without_a_valid_token_are_not_logged(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert app.test_client().get("/api/jobs/").status_code == 401
    assert not caplog.records
