from collections.abc import Iterator

import psycopg
import pytest

from ccapi.db import migrations
from ccapi.embedded import PrivatePostgres
from tests.cli.conftest import Command
from tests.pgbouncer import needs_pgbouncer, pgbouncer

NAMES = [migration.name for migration in migrations.available()]


@pytest.fixture
def empty(
    environment: None, postgres: PrivatePostgres, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The address of a database without tables, which is the one that the command uses."""
    url = postgres.database_url("unmigrated")
    with psycopg.connect(postgres.database_url("postgres"), autocommit=True) as conn:
        conn.execute("CREATE DATABASE unmigrated")
        monkeypatch.setenv("CCAPI_DATABASE_URL", url)
        yield url
        conn.execute("DROP DATABASE unmigrated WITH (FORCE)")


@pytest.mark.usefixtures("empty")
def test_migrate_prints_the_applied_migrations(ccapi: Command) -> None:
    assert ccapi("migrate") == (0, "".join(f"applied {name}\n" for name in NAMES), "")


@pytest.mark.usefixtures("empty")
def test_migrate_without_pending_migrations(ccapi: Command) -> None:
    ccapi("migrate")
    assert ccapi("migrate") == (0, "the database is up to date\n", "")


def test_database_of_a_newer_version_is_one_line(ccapi: Command, empty: str) -> None:
    ccapi("migrate")
    with psycopg.connect(empty) as conn:
        conn.execute("INSERT INTO schema_migrations VALUES (9999, '9999_add_more', '')")
    status, out, err = ccapi("migrate")
    assert (status, out) == (2, "")
    assert err.startswith("ccapi: the database is newer than this ccapi")
    assert err.count("\n") == 1


@pytest.mark.usefixtures("empty")
def test_token_create_needs_a_migrated_database(ccapi: Command) -> None:
    status, out, err = ccapi("token", "list")
    assert (status, out) == (2, "")
    assert "ccapi migrate" in err
    assert err.count("\n") == 1


def test_unreachable_database_is_one_line(ccapi: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CCAPI_DATABASE_URL", "postgresql:///ccapi?host=/nowhere")
    status, out, err = ccapi("migrate")
    assert (status, out) == (2, "")
    assert err.startswith("ccapi: the database does not answer: ")
    assert err.count("\n") == 1


def test_invalid_settings_are_reported(ccapi: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CCAPI_DATABASE_POOL_SIZE", "many")
    status, out, err = ccapi("migrate")
    assert (status, out) == (2, "")
    assert err.startswith("ccapi: environment: CCAPI_DATABASE_POOL_SIZE: expected an integer")


@needs_pgbouncer
@pytest.mark.usefixtures("environment")
def test_a_connection_pooler_is_refused_in_one_line(
    ccapi: Command, postgres: PrivatePostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pgbouncer(postgres, "session", connections=1) as url:
        monkeypatch.setenv("CCAPI_DATABASE_URL", url)
        status, out, err = ccapi("migrate")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.endswith("set CCAPI_DATABASE_URL to PostgreSQL itself for this command\n")


def be_site(monkeypatch: pytest.MonkeyPatch, number: int, *, hub: bool = False) -> None:
    monkeypatch.setenv("CCAPI_DATABASE_SITE", str(number))
    monkeypatch.setenv("CCAPI_DATABASE_HUB", str(hub).lower())


@pytest.mark.usefixtures("empty")
def test_site_is_decided_once(ccapi: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    ccapi("migrate")
    be_site(monkeypatch, 7)
    _, _, err = ccapi("token", "list")
    assert err == "ccapi: the database is not site 7 of a hub yet; run `ccapi migrate` first\n"
    for _ in range(2):
        assert ccapi("migrate") == (0, "the database is site 7 of a hub\n", "")
    assert ccapi("token", "list").status == 0
    others = ((8, False, "site 8 of a hub"), (0, False, "a registry without"), (0, True, "a hub"))
    for number, hub, other in others:
        be_site(monkeypatch, number, hub=hub)
        for command in (("migrate",), ("token", "list")):
            status, out, err = ccapi(*command)
            assert (status, out) == (2, "")
            assert err.startswith(
                f"ccapi: the database is site 7 of a hub, and the settings say {other}"
            )


def test_database_with_jobs_becomes_neither_site_nor_hub(
    ccapi: Command, empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ccapi("migrate")
    with psycopg.connect(empty) as conn:
        conn.execute("INSERT INTO tags (type, name) VALUES ('a', 'b')")
    for number, hub in ((1, False), (0, True)):
        be_site(monkeypatch, number, hub=hub)
        status, out, err = ccapi("migrate")
        assert (status, out) == (2, "")
        assert err.startswith("ccapi: the database has jobs already, and cannot become ")


def test_hub_without_subscription_is_reported(
    ccapi: Command, empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_site(monkeypatch, 0, hub=True)
    assert ccapi("migrate").out.endswith("the database is a hub\n")
    assert ccapi("check").err == "ccapi: the hub has no subscription\n"
    with psycopg.connect(empty) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("INSERT INTO tags (type, name) VALUES ('a', 'b')")


def test_hub_with_a_number_is_refused(ccapi: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    be_site(monkeypatch, 1, hub=True)
    _, _, err = ccapi("migrate")
    assert err == "ccapi: database.site: expected nothing, because database.hub is true\n"
