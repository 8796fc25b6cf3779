"""POST /api/jobs/resize_job/: a running job gets other nodes."""

import json
from functools import partial
from typing import Any

import orjson
import pytest
from flask import Flask

from ccapi.context import Context
from ccapi.db.pool import Database
from ccapi.model.token import Role, Scope
from ccapi.service import tokens
from tests.api.archived import document
from tests.client import START, Client, assert_error, at_once, full_job, without

NODES = [{"hostname": name, "hwthreads": [0, 1], "accelerators": ["0"]} for name in ("f1", "f2")]


def resize(**overrides: Any) -> dict[str, Any]:
    """Make a body that takes f2 from the job after a minute."""
    fields = {"resizeTime": START + 60, "resources": NODES[:1], "numHwthreads": 2, "numAcc": 1}
    return {"jobId": 123000, **fields, **overrides}


def send(client: Client, **overrides: Any) -> dict[str, Any]:
    response = client.send("POST", "/resize_job/", resize(**overrides))
    assert response.status_code == 200, response.text
    job: dict[str, Any] = response.get_json()
    return job


def hosts(job: dict[str, Any]) -> list[str]:
    return [node["hostname"] for node in job["resources"]]


def history(job: dict[str, Any]) -> list[tuple[int, list[str]]]:
    entries = json.loads(job.get("metaData", {}).get("nodeHistory", "[]"))
    return [(entry["until"] - START, entry["hosts"]) for entry in entries]


@pytest.fixture
def running(writer: Client) -> int:
    """A job on two nodes."""
    meta_data = {"jobName": "rotor"}
    return writer.start(resources=NODES, numHwthreads=4, numAcc=2, metaData=meta_data)


def test_every_view_has_the_present_nodes(writer: Client, database: Database, running: int) -> None:
    resized = send(writer, resources=[*NODES[:1], {"hostname": "f3"}])
    assert writer.read(running) | {"duration": 0} == resized | {"duration": 0}
    assert hosts(resized) == ["f1", "f3"]
    assert (resized["numNodes"], resized["numHwthreads"], resized["numAcc"]) == (2, 2, 1)
    assert resized["metaData"]["jobName"] == "rotor"
    assert history(resized) == [(60, ["f1", "f2"])]
    assert [len(writer.list(f"host={host}")) for host in ("f1", "f2", "f3")] == [1, 0, 1]
    used = writer.send("GET", "/used_nodes").get_json()["usedNodes"]
    assert used == {"fritz": ["f1", "f3"]}
    with database.connection() as conn:
        rows = conn.execute("SELECT host, hwthreads FROM job_hosts_view ORDER BY host").fetchall()
    assert rows == [("f1", [0, 1]), ("f3", None)]


def test_statistics_count_the_present_nodes(writer: Client, running: int) -> None:
    send(writer)
    writer.stop()
    path = f"/stats/?range={START}-{START + 10_000}"
    assert writer.send("GET", path).get_json()["nodeHours"] == 1.0


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_repeated_change_leaves_the_job_as_it_is(writer: Client, running: int, method: str) -> None:
    first = send(writer)
    again = writer.send(method, "/resize_job/", resize(resizeTime=START + 90))
    assert again.get_json() | {"duration": 0} == first | {"duration": 0}


def test_history_has_the_hosts_of_each_time(writer: Client, running: int) -> None:
    three = [*NODES, {"hostname": "f3"}]
    send(writer, resizeTime=START + 10, resources=three)
    send(writer, resizeTime=START + 20, resources=NODES)
    # A repeated report of the first change, and a correction of the second one.
    assert hosts(send(writer, resizeTime=START + 10, resources=three)) == ["f1", "f2"]
    send(writer, resizeTime=START + 20, resources=NODES[1:])
    job = send(writer, resizeTime=START + 30, resources=NODES[:1])
    assert history(job) == [(10, ["f1", "f2"]), (20, ["f1", "f2", "f3"]), (30, ["f2"])]
    assert hosts(job) == ["f1"]


def test_nodes_from_the_start_on_have_no_history(writer: Client, running: int) -> None:
    job = send(writer, resizeTime=START - 60)
    assert (hosts(job), history(job)) == (["f1"], [])


def test_archive_has_the_last_nodes_and_the_history(
    writer: Client, context: Context, running: int
) -> None:
    send(writer)
    assert writer.stop()["monitoringStatus"] == 3
    archived = orjson.loads(document(context).read_bytes())
    assert (hosts(archived), history(archived)) == (["f1"], [(60, ["f1", "f2"])])


def test_counts_that_are_left_out_are_unknown(writer: Client, running: int) -> None:
    body = without(without(resize(), "numAcc"), "numHwthreads")
    job = writer.send("POST", "/resize_job/", body).get_json()
    assert (job["numNodes"], job.get("numHwthreads"), job.get("numAcc")) == (1, None, None)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (without(resize(), "jobId"), "jobId: is required"),
        (without(resize(), "resizeTime"), "resizeTime: is required"),
        (without(resize(), "resources"), "resources: is required"),
        (resize(resources=[]), "resources: must have at least one host"),
        (resize(resources=NODES[:1] * 2), "f1 appears twice"),
        (resize(resources=[{"hostname": "a/b"}]), "resources.0.hostname: must be"),
        (resize(resources=[{"hwthreads": [0]}]), "resources.0.hostname: is required"),
        (resize(resources="f1"), "resources: must be an array"),
        (resize(numNodes=2), "numNodes: must be the number of resources, 1"),
        (resize(numAcc=-1), "numAcc: must be"),
        (resize(resizeTime=START - 61), "resizeTime: must be between startTime"),
        (resize(resizeTime=1e9), "resizeTime: must be an integer"),
    ],
)
def test_wrong_body_is_refused(
    writer: Client, running: int, body: dict[str, Any], word: str
) -> None:
    before = writer.read(running)
    assert_error(writer.send("POST", "/resize_job/", body), 400, word)
    assert writer.read(running) | {"duration": 0} == before | {"duration": 0}


def test_unknown_fields_are_ignored(writer: Client, running: int) -> None:
    nodes = [{"Hostname": "f1", "colour": "red"}]
    response = writer.send("POST", "/resize_job/", full_job(**resize(resources=nodes)))
    assert hosts(response.get_json()) == ["f1"]
    assert {"user", "colour"} <= set(response.headers["Ccapi-Ignored-Fields"].split(", "))


def test_finished_and_unknown_jobs_are_refused(writer: Client, running: int) -> None:
    writer.stop()
    assert_error(writer.send("POST", "/resize_job/", resize()), 422, "already stopped")
    assert_error(writer.send("POST", "/resize_job/", resize(jobId=5)), 422, "no job has")
    other = resize(startTime=START + 1)
    assert_error(writer.send("POST", "/resize_job/", other), 422, "no job has")


def test_role_and_scope_are_respected(
    app: Flask, database: Database, reader: Client, running: int
) -> None:
    assert_error(reader.send("POST", "/resize_job/", resize()), 403, "writer")
    for name, scope in (("woody", Scope(clusters=("woody",))), ("anna", Scope(users=("anna",)))):
        secret = tokens.create(database, name, Role.WRITER, scope=scope)
        client = Client(app.test_client(), secret)
        assert_error(client.send("POST", "/resize_job/", resize()), 422, "no job has")
    secret = tokens.create(database, "fritz", Role.WRITER, scope=Scope(clusters=("fritz",)))
    assert hosts(send(Client(app.test_client(), secret))) == ["f1"]


def test_history_is_bounded(writer: Client, running: int) -> None:
    writer.send("POST", f"/edit_meta/{running}", {"metaData": {"nodeHistory": "of a user"}})
    for number in range(1, 103):
        job = send(writer, resizeTime=START + number, resources=[{"hostname": f"f{number}"}])
    assert history(job)[0] == (3, ["f2"])
    assert len(history(job)) == 100
    large = [{"hostname": f"{number:0255}"} for number in range(5_000)]
    job = send(writer, resizeTime=START + 200, resources=large)
    job = send(writer, resizeTime=START + 201, resources=NODES)
    assert (hosts(job), history(job)) == (["f1", "f2"], [])


def test_changes_and_a_stop_at_once(writer: Client, running: int) -> None:
    requests = [
        partial(writer.twin().send, "POST", "/resize_job/", resize(resizeTime=START + number))
        for number in range(4)
    ]
    stop = {"jobId": 123000, "jobState": "completed", "stopTime": START + 3600}
    requests.append(partial(writer.twin().send, "POST", "/stop_job/", stop))
    assert {response.status_code for response in at_once(requests)} <= {200, 422}
    job = writer.read(running)
    assert (job["jobState"], job["monitoringStatus"]) == ("completed", 3)


def test_time_in_the_future_is_refused(writer: Client, running: int) -> None:
    response = writer.send("POST", "/resize_job/", resize(resizeTime=9_000_000_000))
    assert_error(response, 400, "must be between startTime")
    assert hosts(writer.read(running)) == ["f1", "f2"]


@pytest.mark.parametrize(
    "text",
    [
        '[{"until":1,"hosts":' + "[" * 300 + "]" * 300 + "}]",
        '[{"until":9223372036854775807,"hosts":["f9"]}]',
        '[{"until":1}]',
        '[{"until":1,"hosts":[1]}]',
        "[1]",
        "{}",
        "[",
    ],
)
def test_other_text_than_a_history_is_replaced(writer: Client, text: str) -> None:
    writer.start(resources=NODES, metaData={"nodeHistory": text})
    assert history(send(writer)) == [(60, ["f1", "f2"])]
