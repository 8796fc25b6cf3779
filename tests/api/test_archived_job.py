"""GET /jobs/{id}/archive and GET /jobs/archive return a job's meta.json as it is."""

from collections.abc import Callable

import pytest
from flask import Flask

from ccapi.context import Context
from ccapi.db.pool import Database
from ccapi.model.token import Role, Scope
from ccapi.service import tokens
from tests.api import archived
from tests.client import START, Client, assert_error, full_job

RUN = f"/archive?cluster=fritz&jobId=123000&startTime={START}"


LimitedClient = Callable[[Scope], Client]


@pytest.fixture
def limited_client(app: Flask, database: Database) -> LimitedClient:
    """Return a function that makes a client with a limited reader's token."""

    def make(scope: Scope) -> Client:
        return Client(app.test_client(), tokens.create(database, "x", Role.READER, scope=scope))

    return make


@pytest.fixture
def id_(admin: Client) -> int:
    """The database id of an archived job."""
    id_ = admin.start(**full_job())
    admin.stop(stopTime=START + 60)
    return id_


def test_answer_is_the_file(context: Context, reader: Client, id_: int) -> None:
    for path in (f"/{id_}/archive", RUN):
        response = reader.send("GET", path)
        assert (response.status_code, response.content_type) == (200, "application/json")
        assert response.data == archived.document(context).read_bytes()


def test_deleted_job_is_found_by_its_run(admin: Client, context: Context, id_: int) -> None:
    admin.send("DELETE", f"/delete_job/{id_}")
    assert_error(admin.send("GET", f"/{id_}/archive"), 404, f"no job has the database id {id_}")
    assert admin.send("GET", RUN).data == archived.document(context).read_bytes()


def test_running_job_is_404(writer: Client) -> None:
    id_ = writer.start()
    for path in (f"/{id_}/archive", RUN):
        expected = f"the archive has no job 123000 of cluster fritz with startTime {START}"
        assert_error(writer.send("GET", path), 404, expected)


@pytest.mark.parametrize("id_", [0, 1, 2**63 - 1])
def test_unknown_job_is_404(reader: Client, id_: int) -> None:
    assert_error(reader.send("GET", f"/{id_}/archive"), 404, f"database id {id_}")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "cluster: is required; jobId: is required; startTime: is required"),
        ("?cluster=fritz&jobId=1", "startTime: is required"),
        ("?cluster=../x&jobId=1&startTime=1", "cluster: must be"),
        ("?cluster=&jobId=1&startTime=1", "cluster: must be"),
        ("?cluster=a&jobId=0&startTime=1", "jobId: must be an integer from 1"),
        (f"?cluster=a&jobId=1&startTime={2**63}", "startTime: must be an integer from 1"),
        ("?cluster=a&jobId=1&startTime=1&x=1", "x: is unknown"),
        ("?cluster=a&jobId=1&jobId=2&startTime=1", "jobId: must not be repeated"),
    ],
)
def test_wrong_query_is_400(reader: Client, query: str, field: str) -> None:
    assert_error(reader.send("GET", f"/archive{query}"), 400, field)


@pytest.mark.parametrize(
    ("scope", "status"),
    [
        (Scope(users=("abcd100h",)), 200),
        (Scope(users=("mallory1",)), 404),
        (Scope(projects=("abcd201",)), 404),
        (Scope(clusters=("alex",)), 404),
    ],
    ids=str,
)
def test_job_out_of_scope_does_not_exist(
    limited_client: LimitedClient, admin: Client, id_: int, scope: Scope, status: int
) -> None:
    limited = limited_client(scope)
    assert limited.send("GET", f"/{id_}/archive").status_code == status
    for _ in ("known", "deleted"):
        response = limited.send("GET", RUN)
        assert response.status_code == status
        if status == 404:
            assert_error(response, 404, "the archive has no job 123000 of cluster fritz")
        admin.send("DELETE", f"/delete_job/{id_}")


def test_token_without_metadata_gets_none(limited_client: LimitedClient, id_: int) -> None:
    client = limited_client(Scope(sees_metadata=False))
    for path in (f"/{id_}/archive", RUN):
        document = client.send("GET", path).get_json()
        assert ("metaData" in document, document["jobId"]) == (False, 123000)


@pytest.mark.parametrize("content", [b"{", b"[]"])
def test_broken_file_is_500(context: Context, reader: Client, id_: int, content: bytes) -> None:
    archived.document(context).write_bytes(content)
    assert_error(reader.send("GET", f"/{id_}/archive"), 500)


def test_file_of_another_job_is_404(context: Context, reader: Client, id_: int) -> None:
    path = archived.document(context)
    path.write_bytes(path.read_bytes().replace(b"123000", b"123001"))
    assert_error(reader.send("GET", RUN), 404, "the archive has no job 123000")


def test_missing_token_is_401(app: Flask, id_: int) -> None:
    assert_error(app.test_client().get(f"/api/jobs/{id_}/archive"), 401)
