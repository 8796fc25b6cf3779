"""GET /jobs/?total=true counts all jobs that match, on whatever page."""

from contextlib import closing
from dataclasses import replace

import pytest
from flask import Flask

from ccapi.config import Config
from ccapi.db.pool import Database, Limits
from ccapi.repository import job_list
from tests.client import START, Client, assert_error

_NUMBER = 5


@pytest.fixture(autouse=True)
def _jobs(admin: Client) -> None:
    for number in range(1, _NUMBER + 1):
        tags = [{"type": "a", "name": "b"}] if number > 2 else []
        admin.start(jobId=number, startTime=START + number, user=f"u{number % 2}", tags=tags)


@pytest.mark.parametrize(
    ("query", "items", "total"),
    [
        ("", 5, 5),
        ("items-per-page=2", 2, 5),
        ("items-per-page=2&page=2", 2, 5),
        ("items-per-page=2&page=3", 1, 5),
        ("items-per-page=2&page=9", 0, 5),
        ("user=u1&items-per-page=2", 2, 3),
        ("user=u1&state=running&cluster=fritz&items-per-page=1", 1, 3),
        ("tag=a:b&items-per-page=1", 1, 3),
        ("state=failed&items-per-page=1", 0, 0),
        (f"start-time={START + 2}-{START + 4}&items-per-page=1", 1, 3),
    ],
)
@pytest.mark.parametrize("batch", [1, 250])
def test_total_counts_matches_on_all_pages(
    reader: Client,
    monkeypatch: pytest.MonkeyPatch,
    *,
    query: str,
    items: int,
    total: int,
    batch: int,
) -> None:
    monkeypatch.setattr("ccapi.api.job_list._BATCH_SIZE", batch)
    answer = reader.send("GET", f"/?{query}&total").get_json()
    assert (answer["items"], answer["total"]) == (items, total)


def test_total_does_not_depend_on_the_cursor(reader: Client) -> None:
    first = reader.send("GET", "/?items-per-page=3&total=true").get_json()
    following = f"/?items-per-page=3&total=true&cursor={first['nextCursor']}"
    assert reader.send("GET", following).get_json()["total"] == _NUMBER


@pytest.mark.parametrize("query", ["", "total=false", "total=0"])
def test_total_is_omitted_by_default(reader: Client, query: str) -> None:
    assert "total" not in reader.send("GET", f"/?{query}").get_json()


def test_value_that_is_not_a_boolean_is_refused(reader: Client) -> None:
    assert_error(reader.send("GET", "/?total=maybe"), 400, "total: must be true")


def test_complete_list_needs_no_count_query(
    reader: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(job_list, "count")
    assert reader.send("GET", "/?total=true").get_json()["total"] == _NUMBER


def test_slow_count_is_503_with_advice(
    app: Flask, reader: Client, config: Config, database: Database
) -> None:
    context = app.extensions["ccapi"]
    limits = Limits(statement_timeout=0.2, lock_timeout=20)
    with (
        closing(Database(config.database.url, limits)) as hurried,
        database.session() as conn,
        conn.transaction(),
    ):
        app.extensions["ccapi"] = replace(context, database=hurried)
        conn.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        response = reader.send("GET", "/?total=true")
    app.extensions["ccapi"] = context
    assert_error(
        response, 503, "request fewer jobs, for example by start-time", "or leave out total"
    )
    assert response.headers["Retry-After"]
