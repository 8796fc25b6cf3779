"""GET /jobs/{id} shows one job with all that is known of it."""

from dataclasses import replace

import pytest
from flask import Flask

from ccapi.config import Config
from ccapi.db.pool import Database
from ccapi.model.token import Role
from tests.client import START, Client, assert_error, full_job
from tests.conftest import client, serve


def test_job_equals_that_of_the_list_with_metadata(admin: Client, reader: Client) -> None:
    id_ = admin.start(**full_job())
    admin.stop(stopTime=START + 60)
    admin.start(jobId=7)
    answer = reader.send("GET", f"/{id_}").get_json()
    assert answer == reader.read(id_)
    assert answer["metaData"] == full_job()["metaData"]
    assert (answer["jobState"], answer["duration"]) == ("completed", 60)


@pytest.mark.parametrize("id_", [0, 1, 2**63 - 1])
def test_unknown_job_is_404(reader: Client, id_: int) -> None:
    assert_error(reader.send("GET", f"/{id_}"), 404, f"no job has the database id {id_}")


@pytest.mark.parametrize("id_", [2**63, 10**39, 10**60])
def test_number_beyond_64_bits_is_400(reader: Client, id_: int) -> None:
    assert_error(reader.send("GET", f"/{id_}"), 400, "id: must be a 64-bit integer")


@pytest.mark.parametrize("path", ["/abc", "/-1", "/1.5", "/%31x", "/²"])
def test_id_that_is_not_a_number_is_404(reader: Client, path: str) -> None:
    assert_error(reader.send("GET", path), 404, "there is nothing at")


def test_query_parameters_are_refused(reader: Client) -> None:
    assert_error(reader.send("GET", "/1?fields=jobId"), 400, "does not accept query parameters")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_other_methods_are_405(admin: Client, method: str) -> None:
    response = admin.send(method, f"/{admin.start()}", {})
    assert_error(response, 405)
    assert "GET" in response.headers["Allow"]


def test_missing_token_is_401(app: Flask) -> None:
    assert_error(app.test_client().get("/api/jobs/1"), 401)


def test_matching_etag_is_304_until_the_job_changes(admin: Client) -> None:
    id_ = admin.start()
    admin.stop(stopTime=START + 60)
    etag = admin.send("GET", f"/{id_}").headers["ETag"]
    known = {"If-None-Match": etag}
    assert admin.send("GET", f"/{id_}", headers=known).status_code == 304
    admin.send("POST", f"/tag_job/{id_}", [{"type": "a", "name": "b"}])
    response = admin.send("GET", f"/{id_}", headers=known)
    assert (response.status_code, response.get_json()["tags"][0]["name"]) == (200, "b")


def test_each_job_is_cached_by_itself(config: Config, database: Database, admin: Client) -> None:
    shared = serve(replace(config, jobs=replace(config.jobs, list_cache_seconds=30)), database)
    reader = client(shared, database, Role.READER)
    first, second = admin.start(jobId=1), admin.start(jobId=2)
    for id_ in (first, second, first):
        assert reader.send("GET", f"/{id_}").get_json()["id"] == id_
    assert reader.send("GET", "/").get_json()["items"] == 2
    admin.send("DELETE", f"/delete_job/{first}")
    assert reader.send("GET", f"/{first}").status_code == 200
    assert admin.send("GET", f"/{first}").status_code == 404
