"""What the family's clients send, byte for byte, and in their order."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from flask import Flask
from werkzeug.test import TestResponse

from ccapi.db.pool import Database
from ccapi.model.job import JobState
from tests.client import Client, assert_error, assert_nothing_written, count

CLIENTS = Path(__file__).parents[1] / "contract" / "clients"
STARTS = ("slurm-adapter-start", "slurm-sync-start", "condor-sync-start", "backend-1.5-start")


def body(name: str) -> bytes:
    return (CLIENTS / f"{name}.json").read_bytes()


def parsed(name: str) -> dict[str, Any]:
    document: dict[str, Any] = orjson.loads(body(name))
    return document


def send(client: Client, method: str, path: str, data: bytes, **headers: str) -> TestResponse:
    """Send bytes as they are, with curl's default Content-Type."""
    return client.http.open(
        f"/api{path}",
        method=method,
        data=data,
        headers={"X-Auth-Token": client.token, **headers},
        content_type="application/x-www-form-urlencoded",
    )


def start(client: Client, name: str) -> int:
    response = send(client, "POST", "/jobs/start_job/", body(name))
    assert response.status_code == 201, response.text
    assert "Ccapi-Ignored-Fields" not in response.headers
    id_: int = response.get_json()["id"]
    return id_


@pytest.mark.parametrize("name", STARTS)
def test_start_of_every_client_is_registered(writer: Client, name: str) -> None:
    id_ = start(writer, name)
    sent = parsed(name)
    job = writer.read(id_)
    for field in ("jobId", "user", "project", "cluster", "startTime", "partition"):
        assert job[field] == sent[field]
    assert job["resources"] == sent["resources"]
    assert job["metaData"] == sent.get("metaData", sent.get("metadata"))
    assert job["jobState"] == "running"


def test_fields_of_todays_struct_are_kept_and_shown(writer: Client) -> None:
    job = writer.read(start(writer, "backend-1.5-start"))
    assert (job["shared"], job["exclusive"]) == ("none", 1)
    assert (job["submitTime"], job["requestedMemory"]) == (1795457500, 128000)
    assert job["statistics"]["mem_bw"]["unit"] == "GB/s"
    assert [(tag["type"], tag["name"]) for tag in job["tags"]] == [("Debug", "Testjob")]
    assert "arrayJobId" not in job
    assert "numAcc" not in job


def test_zeros_and_nulls_mean_not_given(writer: Client) -> None:
    job = writer.read(start(writer, "slurm-adapter-start"))
    assert (job["shared"], job["exclusive"]) == ("multi_user", 0)
    for field in ("energy", "energyFootprint", "footprint", "statistics", "concurrentJobs"):
        assert field not in job


def test_mcs_of_slurm_is_exclusive_to_a_user(writer: Client) -> None:
    job = writer.read(start(writer, "slurm-sync-start"))
    assert (job["shared"], job["exclusive"]) == ("single_user", 2)


@pytest.mark.parametrize("state", ["completed", "node_fail", "BOOT_FAIL", "deadline", "revoked"])
def test_slurm_adapter_starts_lists_and_stops(writer: Client, state: str) -> None:
    id_ = start(writer, "slurm-adapter-start")
    poll = "state=running&items-per-page=9999999&page=1&with-metadata=false"
    assert [job["id"] for job in writer.list(poll)] == [id_]
    stop = {**parsed("slurm-adapter-stop"), "jobState": state}
    response = send(writer, "POST", "/jobs/stop_job/", orjson.dumps(stop))
    assert response.status_code == 200, response.text
    expected = {"revoked": "cancelled"}.get(state, state.lower())
    assert response.get_json()["jobState"] == expected
    assert writer.list(poll) == []
    assert [job["id"] for job in writer.list(f"state={expected}")] == [id_]


def test_a_refused_start_does_not_stop_the_next_ones(writer: Client, database: Database) -> None:
    start(writer, "slurm-adapter-start")
    duplicate = send(writer, "POST", "/jobs/start_job/", body("slurm-adapter-start"))
    assert_error(duplicate, 422, "already registered")
    start(writer, "slurm-sync-start")
    start(writer, "condor-sync-start")
    assert count(database, "jobs") == 3


def test_condor_sync_pages_until_a_short_page_and_stops_by_id(writer: Client) -> None:
    template = parsed("condor-sync-start")
    first = template["jobId"]
    for number in range(250):
        job = {**template, "jobId": first + number}
        assert send(writer, "POST", "/jobs/start_job/", orjson.dumps(job)).status_code == 201
    ids: list[int] = []
    page = 1
    while True:
        jobs = writer.list(f"state=running&items-per-page=100&page={page}")
        ids += [job["id"] for job in jobs]
        if len(jobs) < 100:
            break
        page += 1
    assert (page, len(set(ids))) == (3, 250)
    stop = {"jobState": "completed", "stopTime": template["startTime"] + 60}
    response = send(writer, "POST", f"/jobs/stop_job/{ids[0]}", orjson.dumps(stop))
    assert response.status_code == 200


def test_node_states_are_stored(writer: Client, database: Database) -> None:
    response = send(writer, "POST", "/nodestate/", body("slurm-adapter-nodestate"))
    assert response.status_code == 201, response.text
    again = parsed("slurm-adapter-nodestate")
    again["nodes"][1]["states"] = ["idle"]
    assert send(writer, "POST", "/nodestate/", orjson.dumps(again)).status_code == 201
    with database.session() as conn:
        rows = conn.execute(
            "SELECT cluster, host, states, cpus_allocated, memory_allocated, jobs_running "
            "FROM node_states ORDER BY host"
        ).fetchall()
    assert rows == [
        ("fritz", "f0101", ["allocated"], 2, 4096, 1),
        ("fritz", "f0102", ["idle"], 0, 0, 0),
    ]


def test_node_that_appears_twice_is_refused(writer: Client) -> None:
    report = {"cluster": "fritz", "nodes": [{"hostname": "f1"}, {"hostname": "f1"}]}
    response = send(writer, "POST", "/nodestate/", orjson.dumps(report))
    assert_error(response, 400, "nodes", "once")


def test_edit_meta_by_request_finds_a_finished_job(writer: Client) -> None:
    id_ = start(writer, "backend-1.5-start")
    sent = parsed("backend-1.5-start")
    writer.stop(jobId=sent["jobId"], cluster="fritz", startTime=sent["startTime"],
                stopTime=sent["startTime"] + 60)  # fmt: skip
    response = send(writer, "PATCH", "/jobs/edit_meta/", body("edit-meta-by-request"))
    assert response.status_code == 200, response.text
    assert writer.read(id_)["metaData"] == {"jobScript": "#!/bin/bash\n", "note": "checked"}


@pytest.mark.parametrize(
    "change",
    [{"key": "note", "value": "x"}, {"metaData": {"note": "x"}}, {"note": "x"}],
    ids=["key and value", "metaData", "plain"],
)
def test_edit_meta_accepts_three_forms(writer: Client, change: dict[str, Any]) -> None:
    id_ = start(writer, "slurm-sync-start")
    response = writer.send("PATCH", f"/edit_meta/{id_}", change)
    assert response.status_code == 200, response.text
    assert response.get_json()["metaData"] == {"jobName": "rotor", "note": "x"}


def test_statistics_are_replaced_with_units_in_both_forms(writer: Client) -> None:
    id_ = start(writer, "backend-1.5-start")
    metrics = {
        "flops_any": {"unit": {"base": "F/s", "prefix": "G"}, "avg": 2, "min": 1, "max": 3},
        "cpu_load": {"unit": "", "avg": 1, "min": 0, "max": 2},
    }
    response = writer.send("PUT", f"/statistics/{id_}", metrics)
    assert response.status_code == 200, response.text
    statistics = writer.read(id_)["statistics"]
    assert {name: values["unit"] for name, values in statistics.items()} == {
        "flops_any": "GF/s",
        "cpu_load": "",
    }


@pytest.mark.parametrize("batch", [1, 250], ids=["streamed", "at once"])
def test_unit_is_an_object_for_clients_that_accept_ld_json(
    writer: Client, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr("ccapi.api.job_list._BATCH_SIZE", batch)
    id_ = start(writer, "backend-1.5-start")
    start(writer, "slurm-sync-start")
    poll = "/jobs/?state=running&items-per-page=9999999&page=1&with-metadata=false"
    for path in (f"/jobs/{id_}", "/jobs/", poll):
        answer = send(writer, "GET", path, b"", Accept="application/ld+json").get_json()
        [job] = [job for job in answer.get("jobs", [answer]) if job["id"] == id_]
        assert job["statistics"]["mem_bw"]["unit"] == {"prefix": "G", "base": "B/s"}
    assert writer.read(id_)["statistics"]["mem_bw"]["unit"] == "GB/s"


def test_readers_who_accept_different_units_share_no_response(app: Flask, reader: Client,
                                                              writer: Client) -> None:  # fmt: skip
    id_ = start(writer, "backend-1.5-start")
    texts = {
        accept: send(reader, "GET", f"/jobs/{id_}", b"", Accept=accept).text
        for accept in ("application/json", "application/ld+json")
    }
    assert len(set(texts.values())) == 2


def test_used_nodes_lists_each_host_once(writer: Client) -> None:
    for name in STARTS:
        start(writer, name)
    response = send(writer, "GET", "/jobs/used_nodes?ts=1795457950", b"")
    assert response.get_json() == {
        "usedNodes": {"condor": ["c01"], "fritz": ["f0101", "f0102", "f0103"]}
    }
    response = send(writer, "GET", "/jobs/used_nodes?ts=1795457650&cluster=fritz", b"")
    assert response.get_json() == {"usedNodes": {"fritz": ["f0101"]}}


def test_clusters_are_those_of_jobs_without_settings(writer: Client) -> None:
    for name in STARTS:
        start(writer, name)
    response = send(writer, "GET", "/clusters/", b"")
    assert [cluster["name"] for cluster in response.get_json()["clusters"]] == ["condor", "fritz"]
    response = send(writer, "GET", "/clusters/?cluster=fritz", b"")
    assert [cluster["name"] for cluster in response.get_json()["clusters"]] == ["fritz"]


def test_stop_merges_metadata(writer: Client) -> None:
    id_ = start(writer, "slurm-adapter-start")
    stop = {**parsed("slurm-adapter-stop"), "metaData": {"exitCode": "0:0", "jobName": "blade"}}
    response = send(writer, "POST", "/jobs/stop_job/", orjson.dumps(stop))
    assert response.status_code == 200
    meta_data = writer.read(id_)["metaData"]
    assert (meta_data["exitCode"], meta_data["jobName"]) == ("0:0", "blade")
    assert meta_data["submitTime"] == "1795457619"


@pytest.mark.parametrize(("before", "status"), [(1, 200), (60, 200), (61, 400)])
def test_stop_shortly_before_the_start_is_clock_skew(
    writer: Client, before: int, status: int
) -> None:
    start(writer, "slurm-adapter-start")
    stop = {**parsed("slurm-adapter-stop"), "stopTime": 1795457620 - before}
    response = send(writer, "POST", "/jobs/stop_job/", orjson.dumps(stop))
    assert response.status_code == status
    if status == 200:
        assert response.get_json()["duration"] == 1


def test_unknown_field_is_ignored_and_reported(writer: Client) -> None:
    sent = parsed("slurm-sync-start")
    sent["colour"] = "blue"
    sent["resources"][0]["weight"] = 3
    response = send(writer, "POST", "/jobs/start_job/", orjson.dumps(sent))
    assert response.status_code == 201
    assert response.headers["Ccapi-Ignored-Fields"] == "colour, weight"


@pytest.mark.parametrize("name", ["größe", "a\nb: c", "x" * 300, "a, b", "\U0001f600"])
def test_name_of_an_unknown_field_is_safe_in_a_header(writer: Client, name: str) -> None:
    sent = {**parsed("slurm-sync-start"), name: 1}
    response = send(writer, "POST", "/jobs/start_job/", orjson.dumps(sent))
    assert response.status_code == 201
    header = response.headers["Ccapi-Ignored-Fields"]
    assert header.isascii()
    assert header.isprintable()
    assert "," not in header


def test_two_spellings_of_a_key_are_refused(writer: Client, database: Database) -> None:
    sent = {**parsed("slurm-sync-start"), "metaData": {}}
    response = send(writer, "POST", "/jobs/start_job/", orjson.dumps(sent))
    assert_error(response, 400, "metadata", "metaData")
    assert_nothing_written(database)


def test_known_field_of_a_wrong_type_is_refused(writer: Client, database: Database) -> None:
    sent = {**parsed("slurm-sync-start"), "NUMNODES": "one"}
    del sent["numNodes"]
    response = send(writer, "POST", "/jobs/start_job/", orjson.dumps(sent))
    assert_error(response, 400, "numNodes")
    assert_nothing_written(database)


def test_every_final_state_is_a_filter(writer: Client) -> None:
    for state in JobState:
        assert writer.list(f"state={state}") == []


def test_delete_before_can_keep_tagged_jobs(admin: Client) -> None:
    tagged = start(admin, "backend-1.5-start")
    start(admin, "slurm-sync-start")
    response = send(admin, "DELETE", "/jobs/delete_job_before/1800000000?omit-tagged=true", b"")
    assert response.get_json() == {"msg": "deleted 1 job that started before 1800000000"}
    assert [job["id"] for job in admin.list()] == [tagged]
