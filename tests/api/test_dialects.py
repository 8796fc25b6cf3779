"""Bodies of other versions and programs: unknown fields, spellings, and other words."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
from werkzeug.test import TestResponse

from ccapi.config import Config
from ccapi.context import Context
from ccapi.db.pool import Database
from ccapi.model.token import Role
from tests.client import START, Client, assert_error, assert_nothing_written, job, stop, without
from tests.conftest import client, serve


def stop_by_id(client: Client, id_: int, **overrides: Any) -> Any:
    body = without(stop(**overrides), "jobId")
    return client.send("POST", f"/stop_job/{id_}", body)


_STARTED = {"jobId": 1, "startTime": START}
_RECONCILE = {"cluster": "fritz", "asOf": START + 60, "jobs": []}
# Requests with an unknown field, by its name, while the job of `job` runs as {id}.
UNKNOWN: dict[str, tuple[str, str, Any]] = {
    "stopTime": ("POST", "/start_job/", job(stopTime=START, jobId=5)),
    "cpus": ("POST", "/start_job/", job(resources=[{"hostname": "f1", "cpus": 1}], jobId=5)),
    "median": ("POST", "/start_job/", job(statistics={"m": {"avg": 1, "median": 1}}, jobId=5)),
    "symbol": (
        "POST", "/start_job/", job(statistics={"m": {"unit": {"base": "W", "symbol": 1}}}, jobId=5)
    ),
    "colour": (
        "POST", "/start_job/", job(tags=[{"type": "a", "name": "b", "colour": "red"}], jobId=5)
    ),
    "user": ("POST", "/stop_job/", stop(user="abcd100h")),
    "exitCode": ("POST", "/stop_job/{id}", stop(exitCode=0)),
    "kind": ("POST", "/tag_job/{id}", [{"type": "a", "name": "b", "kind": "c"}]),
    "level": ("DELETE", "/tag_job/{id}", [{"type": "a", "name": "b", "level": 1}]),
    "why": ("PATCH", "/edit_meta/{id}", {"metaData": {"a": "b"}, "why": "c"}),
    "who": ("PATCH", "/edit_meta/{id}", {"key": "a", "value": "b", "who": "c"}),
    "reason": ("PATCH", "/edit_meta/", {"jobId": 123000, "payload": {"a": "b"}, "reason": "c"}),
    "mean": ("PUT", "/statistics/{id}", {"mem_bw": {"avg": 1, "mean": 1}}),
    "partition": ("POST", "/api/nodestate/", {"cluster": "fritz", "nodes": [], "partition": "x"}),
    "cores": (
        "POST", "/api/nodestate/", {"cluster": "fritz", "nodes": [{"hostname": "f1", "cores": 1}]}
    ),
    "dryRun": ("POST", "/reconcile/", {**_RECONCILE, "dryRun": False}),
    "smt": ("POST", "/reconcile/", {**_RECONCILE, "jobs": [{**_STARTED, "smt": 1}]}),
    "id": ("DELETE", "/delete_job/", {"jobId": 123000, "id": 1}),
}  # fmt: skip


def _send_unknown(admin: Client, name: str) -> TestResponse:
    method, path, body = UNKNOWN[name]
    return admin.send(method, path.format(id=admin.start()), body)


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_field_is_ignored_and_reported(admin: Client, name: str) -> None:
    response = _send_unknown(admin, name)
    assert response.status_code in {200, 201}, response.text
    assert response.headers["Ccapi-Ignored-Fields"] == name


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_setting_lets_an_unknown_field_be_refused(
    config: Config, database: Database, name: str
) -> None:
    server = replace(config.server, unknown_fields="refuse")
    app = serve(replace(config, server=server), database)
    admin = client(app, database, Role.ADMIN)
    response = _send_unknown(admin, name)
    assert_error(response, 400, f"{name}: is unknown")
    [untouched] = admin.list("with-metadata")
    assert (untouched["jobState"], untouched["tags"]) == ("running", [])
    assert "metaData" not in untouched
    assert "statistics" not in untouched


@pytest.mark.parametrize(
    "body", [[{"type": "a", "name": "b", "scope": "c"}], [{"type": "a", "name": "b", "id": 1}]]
)
def test_scope_and_id_of_a_tag_are_known(
    config: Config, database: Database, body: list[dict[str, Any]]
) -> None:
    server = replace(config.server, unknown_fields="refuse")
    admin = client(serve(replace(config, server=server), database), database, Role.ADMIN)
    response = admin.send("POST", f"/tag_job/{admin.start()}", body)
    assert response.status_code == 200, response.text
    assert "Ccapi-Ignored-Fields" not in response.headers


@pytest.mark.parametrize("name", ["jobid", "JobID", "METADATA"])
def test_two_spellings_of_a_field_are_refused(admin: Client, database: Database, name: str) -> None:
    body = job(metaData={"a": "b"}, **{name: 5})
    assert_error(admin.send("POST", "/start_job/", body), 400, name, "same field")
    assert_nothing_written(database)


def test_keys_match_whatever_their_case(admin: Client) -> None:
    body = {
        "JOBID": 1, "User": "a", "cluster": "fritz", "starttime": START, "TAGS": [],
        "Resources": [{"HostName": "f1", "HWThreads": [0]}],
        "statistics": {"m": {"Unit": {"Base": "W", "PREFIX": "K"}, "AVG": 1, "min": 0, "max": 2}},
    }  # fmt: skip
    response = admin.send("POST", "/start_job/", body)
    assert response.status_code == 201, response.text
    assert "Ccapi-Ignored-Fields" not in response.headers
    [listed] = admin.list()
    assert listed["resources"] == [{"hostname": "f1", "hwthreads": [0]}]
    assert listed["statistics"] == {"m": {"unit": "KW", "avg": 1, "min": 0, "max": 2}}
    end = {"jobid": 1, "STOPTIME": START + 1, "jobstate": "TIMEOUT"}
    response = admin.send("POST", "/stop_job/", end)
    assert (response.status_code, response.get_json()["jobState"]) == (200, "timeout")
    assert admin.send("DELETE", "/delete_job/", {"jobID": 1}).status_code == 200


def test_at_most_20_ignored_fields_are_reported_each_once(admin: Client) -> None:
    resources = [{"hostname": f"f{number}", "weight": 1} for number in range(3)]
    body = job(resources=resources, **{f"more{number}": 1 for number in range(30)})
    response = admin.send("POST", "/start_job/", body)
    names = response.headers["Ccapi-Ignored-Fields"].split(", ")
    assert (len(names), len(set(names))) == (20, 20)


@pytest.mark.parametrize("state", ["", "running", "RUNNING", None])
def test_a_start_may_say_in_any_way_that_the_job_runs(writer: Client, state: str | None) -> None:
    assert writer.read(writer.start(jobState=state))["jobState"] == "running"


@pytest.mark.parametrize(
    ("reported", "exclusive", "shared"),
    [
        ({}, 1, "none"),
        ({"exclusive": 0}, 0, "multi_user"),
        ({"exclusive": 2}, 2, "single_user"),
        ({"exclusive": 3}, 2, "single_user"),
        ({"shared": "multi_user"}, 0, "multi_user"),
        ({"shared": "single_user", "exclusive": 3}, 2, "single_user"),
        ({"shared": "none", "exclusive": 1}, 1, "none"),
        ({"shared": "", "exclusive": 0}, 0, "multi_user"),
        ({"shared": None}, 1, "none"),
    ],
    ids=str,
)
def test_exclusive_and_shared_say_the_same(
    writer: Client, reported: dict[str, Any], exclusive: int, shared: str
) -> None:
    listed = writer.read(writer.start(**reported))
    assert (listed["exclusive"], listed["shared"]) == (exclusive, shared)


def test_contradicting_exclusive_and_shared_are_refused(writer: Client, database: Database) -> None:
    body = job(exclusive=1, shared="multi_user")
    assert_error(writer.send("POST", "/start_job/", body), 400, "shared", "multi_user", "not 1")
    assert_nothing_written(database)


@pytest.mark.parametrize(
    ("reported", "state"),
    [
        ("COMPLETED", "completed"),
        ("NODE_FAIL", "node_fail"),
        ("CANCELLED by 1000", "cancelled"),
        ("cancelled by 0", "cancelled"),
        ("revoked", "cancelled"),
        ("Deadline", "deadline"),
    ],
)
def test_states_of_slurm_are_understood(writer: Client, reported: str, state: str) -> None:
    writer.start()
    assert writer.stop(jobState=reported)["jobState"] == state


@pytest.mark.parametrize("early", [1, 60])
def test_a_stop_shortly_before_the_start_counts_as_the_start(
    writer: Client, context: Context, early: int
) -> None:
    id_ = writer.start()
    assert stop_by_id(writer, id_, stopTime=START - early).get_json()["duration"] == 1
    assert writer.list(f"stop-time={START}-{START}")[0]["id"] == id_


def test_metadata_of_a_stop_is_merged_and_archived(writer: Client, context: Context) -> None:
    writer.start(metaData={"jobName": "x", "reason": "y"})
    stopped = writer.stop(metaData={"exitCode": "0:9", "reason": "oom"})
    assert stopped["metaData"] == {"jobName": "x", "reason": "oom", "exitCode": "0:9"}
    [file] = context.archive_root.rglob("meta.json")
    assert orjson.loads(file.read_bytes())["metaData"] == stopped["metaData"]


@pytest.mark.parametrize("meta_data", [[], "x", {"a": 1}, {"a": None}, {"a": "\0"}], ids=str)
def test_a_stop_with_bad_metadata_stops_nothing(writer: Client, meta_data: Any) -> None:
    writer.start()
    response = writer.send("POST", "/stop_job/", stop(metaData=meta_data))
    assert_error(response, 400, "metaData")
    assert len(writer.list("state=running")) == 1
