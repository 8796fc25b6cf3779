"""Readers are answered from the replica while it can answer; tests/replica has a real one."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from flask import Flask

from ccapi.app import create_app
from ccapi.config import Config
from ccapi.db import migrations
from ccapi.db.pool import Database, Limits
from ccapi.db.replica import Replica
from ccapi.embedded import PrivatePostgres
from ccapi.model.token import Role
from tests.client import Client, assert_error
from tests.conftest import client

GONE = "postgresql:///ccapi?host=/nonexistent"
SHORT = Limits(pool_size=1, pool_timeout=0.1, lock_timeout=0.1)


@pytest.fixture(scope="module")
def replica(postgres: PrivatePostgres) -> Iterator[Database]:
    """Stand in for a replica by a database without jobs, so that it shows who reads where."""
    with Database(postgres.url).session() as conn:
        conn.execute("CREATE DATABASE replica")
    database = Database(postgres.database_url("replica"), SHORT)
    migrations.migrate(database)
    yield database
    database.close()


@pytest.fixture
def clients(app: Flask, database: Database) -> dict[Role, Client]:
    """Have a client of each role, and one job."""
    made = {role: client(app, database, role) for role in Role}
    made[Role.WRITER].start()
    return made


def attach(app: Flask, database: Database) -> None:
    """Give the app a replica."""
    context = app.extensions["ccapi"]
    app.extensions["ccapi"] = replace(context, replica=Replica(database, max_lag=10))


def seen(clients: dict[Role, Client]) -> dict[Role, int]:
    return {role: len(client.list()) for role, client in clients.items()}


def test_replica_answers_readers_only(
    app: Flask, clients: dict[Role, Client], replica: Database
) -> None:
    attach(app, replica)
    assert seen(clients) == {Role.READER: 0, Role.WRITER: 1, Role.ADMIN: 1}


def test_primary_answers_without_the_replica_and_logs_it_once(
    app: Flask, clients: dict[Role, Client], caplog: pytest.LogCaptureFixture
) -> None:
    attach(app, Database(GONE, SHORT))
    for _ in range(3):
        assert seen(clients) == dict.fromkeys(Role, 1)
    [line] = [record for record in caplog.records if record.name == "ccapi.db.replica"]
    assert line.getMessage().startswith("the primary answers readers, not the replica: ")


def test_replica_without_all_migrations_is_not_used(
    app: Flask, clients: dict[Role, Client], postgres: PrivatePostgres
) -> None:
    behind = Database(postgres.database_url("postgres"), SHORT)
    attach(app, behind)
    assert seen(clients) == dict.fromkeys(Role, 1)
    behind.close()


def test_readiness_reports_the_replica_without_needing_it(
    app: Flask, config: Config, replica: Database
) -> None:
    gone = Database(GONE, SHORT)
    for database, said in ((replica, "OK"), (gone, "not used")):
        context = replace(app.extensions["ccapi"], replica=Replica(database, max_lag=10))
        response = create_app(config, context).test_client().get("/readyz")
        assert (response.status_code, response.get_json()) == (
            200,
            {"status": "OK", "replica": said},
        )
    gone.close()


def test_list_that_fails_on_the_replica_uses_the_primary(
    app: Flask, clients: dict[Role, Client], replica: Database
) -> None:
    attach(app, replica)
    with replica.session() as conn, conn.transaction():
        conn.execute("LOCK TABLE jobs")
        assert seen(clients) == dict.fromkeys(Role, 1)
    assert seen(clients) == dict.fromkeys(Role, 1)


def test_slow_query_is_not_repeated_on_the_primary(
    app: Flask,
    clients: dict[Role, Client],
    replica: Database,
    postgres: PrivatePostgres,
    caplog: pytest.LogCaptureFixture,
) -> None:
    hurried = Database(postgres.database_url("replica"), Limits(statement_timeout=0.2))
    attach(app, hurried)
    with replica.session() as conn, conn.transaction():
        conn.execute("LOCK TABLE jobs")
        for path in ("/stats/", "/"):
            assert_error(clients[Role.READER].send("GET", path), 503, "too long")
    assert seen(clients)[Role.READER] == 0
    assert not [record for record in caplog.records if record.name == "ccapi.db.replica"]
    hurried.close()
