"""How many SQL statements a request sends, without BEGIN and COMMIT."""

import re
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ccapi.config import Config
from ccapi.db.pool import Database, Limits
from ccapi.model.token import Role
from tests import conftest
from tests.client import Client, job

TAGS = [{"type": "Debug", "name": f"Testjob {n}"} for n in range(5)]
STATISTICS = {f"metric_{n}": {"unit": "W", "avg": 2, "min": 1, "max": 3} for n in range(5)}

# A statement in libpq's trace: of a prepared one there is only "Execute".
_SENT = re.compile(r'^.*\tF\t\d+\t(?:(Execute)|Query\t "(.*?)")', re.MULTILINE)
_NOT_COUNTED = {"BEGIN", "COMMIT", ""}


@pytest.fixture
def single(config: Config, database: Database) -> Iterator[Database]:
    """Pool a single connection, whose trace has all statements."""
    del database
    pool = Database(config.database.url, Limits(pool_size=1))
    yield pool
    pool.close()


@pytest.fixture
def admin(config: Config, single: Database, monkeypatch: pytest.MonkeyPatch) -> Client:
    """Return a client whose token is not looked up again during a test."""
    monkeypatch.setattr("ccapi.http.cache.TOKEN_TTL_SECONDS", 30.0)
    return conftest.client(conftest.serve(config, single), single, Role.ADMIN)


def count(database: Database, request: Callable[[], Any]) -> int:
    """Count the statements that the pool's only connection sends during a request."""
    return sum(1 for simple in sent(database, request) if simple not in _NOT_COUNTED)


def sent(database: Database, request: Callable[[], Any]) -> list[str]:
    """Return the statements that the connection sends; "prepared" for a prepared one."""
    with tempfile.TemporaryFile() as trace:
        with database.connection() as conn:
            conn.pgconn.trace(trace.fileno())
        request()
        with database.connection() as conn:
            conn.pgconn.untrace()
        trace.seek(0)
        statements = _SENT.findall(trace.read().decode())
    return ["prepared" if executed else simple for executed, simple in statements]


def test_listing_25_jobs_takes_one_statement(admin: Client, single: Database) -> None:
    for number in range(1, 26):
        admin.start(jobId=number, tags=TAGS, statistics=STATISTICS)
    assert count(single, lambda: admin.list("items-per-page=25")) == 1


def uses_of_plans(database: Database) -> list[tuple[int, int]]:
    """Return how often prepared lists used one plan, and how often a plan for their values."""
    with database.connection() as conn:
        return conn.execute(
            "SELECT generic_plans::int, custom_plans::int FROM pg_prepared_statements "
            "WHERE statement LIKE '%/* ccapi list_jobs */%'"
        ).fetchall()


@pytest.mark.parametrize(
    "query", ["", "state=running", "cluster=fritz&state=failed", "user=k106eb10", "start-time=1-"]
)
def test_list_that_an_index_has_in_order_is_prepared(
    admin: Client, single: Database, query: str
) -> None:
    admin.start()
    for _ in range(20):
        admin.list(query)
    assert [sum(uses) for uses in uses_of_plans(single)] == [15]


@pytest.mark.parametrize("query", ["", "state=running"])
def test_list_without_values_is_planned_five_times(
    admin: Client, single: Database, query: str
) -> None:
    for _ in range(20):
        admin.list(query)
    assert uses_of_plans(single) == [(10, 5)]


@pytest.mark.parametrize("query", ["partition=main", "state=failed&state=timeout", "page=2"])
def test_list_whose_values_may_be_rare_is_planned_each_time(
    admin: Client, single: Database, query: str
) -> None:
    for _ in range(20):
        admin.list(query)
    assert uses_of_plans(single) == []


def test_starting_a_job_takes_one_statement(admin: Client, single: Database) -> None:
    admin.list()
    body = job(tags=TAGS, statistics=STATISTICS)
    assert len(sent(single, lambda: admin.send("POST", "/start_job/", body))) == 1


def test_a_valid_token_is_not_looked_up_again(admin: Client, single: Database) -> None:
    unknown = "/987654321"
    assert [count(single, lambda: admin.send("GET", unknown)) for _ in range(3)] == [3, 1, 1]


def test_a_connection_that_just_answered_is_not_checked(admin: Client, single: Database) -> None:
    assert "" not in sent(single, admin.list)


def test_an_idle_connection_is_checked(admin: Client, single: Database) -> None:
    def later() -> None:
        time.sleep(1.1)
        admin.list()

    assert sent(single, later).count("") == 1
