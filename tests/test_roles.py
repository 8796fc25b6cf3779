"""Roles and defaults of the server that are not ours: least rights, none, other isolation."""

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import quote

import pytest

from ccapi.config import Config
from ccapi.db.pool import Database
from ccapi.embedded import PrivatePostgres
from ccapi.model.token import Role
from tests import conftest
from tests.cli.conftest import Command, ccapi, environment
from tests.client import Client
from tests.deploy.test_files import ROOT

__all__ = ["ccapi", "environment"]
RIGHTS = "\n".join(
    line.strip()
    for line in (ROOT / "docs" / "operating.rst").read_text("utf-8").splitlines()
    if line.strip().startswith(("GRANT", "ALTER DEFAULT PRIVILEGES"))
    and line.strip().endswith("ccapi_service;")
)


def url_as(postgres: PrivatePostgres, options: str) -> str:
    return f"{postgres.url}&options={quote(options, safe='')}"


@pytest.fixture
def served(postgres: PrivatePostgres, database: Database) -> Iterator[str]:
    """The URL of a role with the rights that the guide gives it."""
    assert RIGHTS.count("GRANT") == 4
    with database.session() as conn:
        conn.execute("CREATE ROLE ccapi_service")
        conn.execute(RIGHTS.encode())
    yield url_as(postgres, "-c role=ccapi_service")
    with database.session() as conn:
        conn.execute("DROP OWNED BY ccapi_service; DROP ROLE ccapi_service")


@pytest.fixture
def powerless(postgres: PrivatePostgres, database: Database) -> Iterator[str]:
    """The URL of a role without rights."""
    with database.session() as conn:
        conn.execute("CREATE ROLE powerless")
    yield url_as(postgres, "-c role=powerless")
    with database.session() as conn:
        conn.execute("DROP ROLE powerless")


def test_a_role_that_owns_nothing_serves_all_operations(config: Config, served: str) -> None:
    database = Database(served)
    settings = replace(config, database=replace(config.database, url=served))
    admin = conftest.client(conftest.serve(settings, database), database, Role.ADMIN)
    tag = [{"type": "a", "name": "b"}]
    id_ = admin.start(tags=tag, resources=[{"hostname": "new"}])
    admin.stop()
    end = {"jobState": "failed", "stopTime": 1_700_007_200}
    nodes = {"cluster": "fritz", "nodes": [{"hostname": "f1", "states": ["idle"]}]}
    for method, path, body in (
        ("GET", f"/{id_}", None),
        ("GET", "/?total=true&host=new", None),
        ("GET", "/stats/?range=1699999000-1700009000", None),
        ("POST", f"/tag_job/{id_}", [{"type": "c", "name": "d"}]),
        ("DELETE", f"/tag_job/{id_}", tag),
        ("PATCH", f"/edit_meta/{id_}", {"metaData": {"note": "x"}}),
        ("POST", f"/correct_job/{id_}", end),
        ("POST", "/api/nodestate/", nodes),
        ("POST", "/reconcile/?dry-run=false", {"cluster": "a", "asOf": 1_700_000_000, "jobs": []}),
        ("DELETE", f"/delete_job/{id_}", None),
        ("DELETE", "/delete_job_before/1800000000", None),
    ):
        assert admin.send(method, path, body).status_code in {200, 201}, (method, path)
    assert admin.http.get("/readyz").status_code == 200
    database.close()


@pytest.mark.parametrize(
    "arguments", [["check"], ["migrate"], ["token", "list"], ["archive", "retry"]], ids=" ".join
)
def test_a_role_without_rights_is_one_line(
    ccapi: Command, powerless: str, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("CCAPI_DATABASE_URL", powerless)
    status, out, err = ccapi(*arguments)
    assert (status, out, err.count("\n")) == (1 if arguments == ["check"] else 2, "", 1)
    assert "the database refuses: permission denied for " in err
    assert err.endswith("; check role, password and database of [database] url, "
                        "and the role's rights\n")  # fmt: skip


def test_an_unknown_database_is_refused_in_one_line(
    ccapi: Command, postgres: PrivatePostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CCAPI_DATABASE_URL", postgres.database_url("missing"))
    _, _, err = ccapi("check")
    assert err.startswith("ccapi: the database refuses: ")
    assert err.count("\n") == 1


def test_the_isolation_level_is_ours(postgres: PrivatePostgres, writer: Client) -> None:
    assert writer
    database = Database(url_as(postgres, "-c default_transaction_isolation=serializable"))
    with database.connection() as conn:
        assert conn.execute("SHOW transaction_isolation").fetchone() == ("read committed",)
    with database.transaction() as conn:
        assert conn.execute("SHOW transaction_isolation").fetchone() == ("read committed",)
    with database.snapshot() as conn:
        assert conn.execute("SHOW transaction_isolation").fetchone() == ("repeatable read",)
    database.close()
