from collections.abc import Iterator

import psycopg
import pytest

from ccapi.db import migrations
from ccapi.embedded import PrivatePostgres
from ccapi.model.job import NewJob, Tag
from ccapi.repository import jobs
from tests.cli.conftest import Command
from tests.pgbouncer import needs_pgbouncer, pgbouncer
from tests.repository.test_migrations import NEW_JOB, dump

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


def test_jobs_of_a_new_site_get_new_ids(
    ccapi: Command, empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ccapi("migrate")
    tags = [Tag("a", "b")]
    ids = "SELECT jt.job, jt.tag, c.job FROM job_tags AS jt JOIN job_corrections AS c USING (job)"

    def insert(number: int) -> int:
        return jobs.insert(conn, NewJob(**{**NEW_JOB, "job_id": number, "tags": tags}), 60)

    with psycopg.connect(empty, autocommit=True) as conn:
        former = insert(1)
        conn.execute(
            "UPDATE jobs SET job_state = 'failed', stop_time = 9; INSERT INTO job_corrections "
            f"(job, corrected_by, old_state, new_state) VALUES ({former}, 'x', 'failed', 'failed');"
            f"INSERT INTO archive_queue (job) VALUES ({former})"
        )
        be_site(monkeypatch, 7)
        assert "use `ccapi migrate --renumber`" in ccapi("migrate").err
        assert ccapi("migrate", "--renumber").out == "the database is site 7 of a hub\n"
        new = 7 * 10**12 + former
        assert conn.execute(ids).fetchall() == [(new, 7 * 10**12 + 1, new)]
        assert conn.execute("SELECT job FROM archive_queue").fetchall() == [(new,)]
        assert insert(2) > new
        conn.execute("DELETE FROM jobs WHERE job_id = 1")
        assert conn.execute("SELECT count(*) FROM job_tags").fetchone() == (1,)
        assert conn.execute("SELECT count(*) FROM job_corrections").fetchone() == (0,)
        with pytest.raises(psycopg.errors.GeneratedAlways):
            conn.execute("UPDATE jobs SET id = 1")
    be_site(monkeypatch, 8)
    assert "is decided once" in ccapi("migrate", "--renumber").err


def test_renumbered_schema_is_that_of_a_new_site(
    ccapi: Command, empty: str, postgres: PrivatePostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    schemas = []
    for has_tags in (False, True):
        with psycopg.connect(empty) as conn:
            conn.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
            conn.execute("DROP PUBLICATION IF EXISTS ccapi")
        be_site(monkeypatch, 0)
        ccapi("migrate")
        with psycopg.connect(empty) as conn:
            conn.execute("INSERT INTO tags (type, name) SELECT 'a', 'b' WHERE %s", [has_tags])
        be_site(monkeypatch, 3)
        ccapi("migrate", "--renumber")
        schemas.append(dump(postgres, empty))
    assert schemas[0].splitlines() == schemas[1].splitlines()


def test_database_with_jobs_cannot_become_a_hub(
    ccapi: Command, empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ccapi("migrate")
    with psycopg.connect(empty) as conn:
        conn.execute("INSERT INTO tags (type, name) VALUES ('a', 'b')")
    be_site(monkeypatch, 0, hub=True)
    status, out, err = ccapi("migrate", "--renumber")
    assert (status, out) == (2, "")
    assert err == "ccapi: the database has jobs, and cannot become a hub: create another\n"


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
