import logging
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ccapi import metrics
from ccapi.context import Context
from ccapi.db.pool import Database
from ccapi.model.job import FINAL_STATES
from ccapi.repository import jobs
from tests.client import START, Client, assert_error, at_once, job, stop, without

META_DATA = {"jobName": "a simulation", "jobScript": "#!/bin/sh\ntrue\n"}
STATISTICS = {"flops_any": {"unit": "GF/s", "avg": 2.5, "min": 0.0, "max": 10.0}}

Break = Callable[[Path], object]


def archive_failures() -> float:
    [metric] = metrics.ARCHIVE_FAILURES.collect()
    return metric.samples[0].value


def stop_by_id(client: Client, id_: int, **overrides: Any) -> Any:
    body = without(stop(**overrides), "jobId")
    return client.send("POST", f"/stop_job/{id_}", body)


def replace_by_file(path: Path) -> None:
    path.rename(path.with_name("former"))
    path.write_text("not a directory")


def put_file_at_cluster(root: Path) -> None:
    (root / "fritz").write_text("not a directory")


def put_dangling_link_at_cluster(root: Path) -> None:
    (root / "fritz").symlink_to(root / "nowhere")


def remove(root: Path) -> None:
    root.rename(root.with_name("unmounted"))


def unmount(root: Path) -> None:
    (root / "version.txt").unlink()


def change_version(root: Path) -> None:
    (root / "version.txt").write_text("2\n")


BROKEN_ARCHIVES = pytest.mark.parametrize(
    "break_archive",
    [
        replace_by_file,
        put_file_at_cluster,
        put_dangling_link_at_cluster,
        remove,
        unmount,
        change_version,
    ],
    ids=lambda function: function.__name__.replace("_", " "),
)


def test_answer_is_the_whole_job(writer: Client) -> None:
    reported = {
        "project": "abcd200",
        "subCluster": "main",
        "partition": "singlenode",
        "arrayJobId": 122990,
        "numNodes": 2,
        "numHwthreads": 144,
        "numAcc": 4,
        "exclusive": 2,
        "smt": 2,
        "walltime": 86400,
        "resources": [{"hostname": "f0101", "hwthreads": [0, 1]}, {"hostname": "f0102"}],
        "metaData": META_DATA,
        "statistics": STATISTICS,
    }
    id_ = writer.start(**reported, tags=[{"type": "Debug", "name": "Testjob"}])
    stopped = writer.stop(jobState="failed")
    [tag] = stopped.pop("tags")
    assert (tag["type"], tag["name"], type(tag["id"])) == ("Debug", "Testjob", int)
    assert stopped == {
        "id": id_,
        "jobId": 123000,
        "user": "abcd100h",
        "cluster": "fritz",
        "startTime": START,
        "duration": 3600,
        "jobState": "failed",
        "monitoringStatus": 3,
        "shared": "single_user",
        **reported,
    }


def test_answer_omits_what_was_not_reported(writer: Client) -> None:
    id_ = writer.start()
    assert writer.stop() == {
        "id": id_,
        "jobId": 123000,
        "user": "abcd100h",
        "project": "",
        "cluster": "fritz",
        "subCluster": "",
        "numNodes": 1,
        "exclusive": 1,
        "shared": "none",
        "startTime": START,
        "duration": 3600,
        "jobState": "completed",
        "monitoringStatus": 3,
        "resources": [{"hostname": "f0101"}],
        "tags": [],
    }


def test_job_is_stopped_by_database_id(writer: Client) -> None:
    writer.start(jobId=1)
    id_ = writer.start(jobId=2)
    response = stop_by_id(writer, id_)
    assert response.status_code == 200
    assert response.get_json()["id"] == id_
    assert [job["jobId"] for job in writer.list("state=running")] == [1]


def test_selection_in_the_body_is_ignored_with_an_id(writer: Client) -> None:
    id_ = writer.start()
    response = writer.send("POST", f"/stop_job/{id_}", stop(jobId=7, cluster="alex", startTime=5))
    assert response.status_code == 200
    assert response.get_json()["id"] == id_


@pytest.mark.parametrize("path", ["/stop_job/", "/stop_job/{id}"], ids=["by request", "by id"])
def test_put_does_the_same(writer: Client, path: str) -> None:
    id_ = writer.start()
    response = writer.send("PUT", path.format(id=id_), stop())
    assert response.status_code == 200
    assert response.get_json()["jobState"] == "completed"


@pytest.mark.parametrize("state", FINAL_STATES)
def test_every_final_state_is_accepted(writer: Client, state: str) -> None:
    writer.start()
    assert writer.stop(jobState=state)["jobState"] == state
    assert [job["jobState"] for job in writer.list(f"state={state}")] == [state]


@pytest.mark.parametrize("state", ["running", "RUNNING", "finished", "", "cancelled by", 1, None])
def test_other_state_is_refused(writer: Client, state: object) -> None:
    id_ = writer.start()
    assert_error(writer.send("POST", "/stop_job/", stop(jobState=state)), 400, "jobState")
    assert_error(stop_by_id(writer, id_, jobState=state), 400, "jobState")
    assert len(writer.list("state=running")) == 1


@pytest.mark.parametrize("field", ["jobId", "jobState", "stopTime"])
def test_missing_field_is_refused(writer: Client, field: str) -> None:
    writer.start()
    assert_error(writer.send("POST", "/stop_job/", without(stop(), field)), 400, field)


def test_stop_time_before_start_time_is_refused(writer: Client) -> None:
    id_ = writer.start()
    early = stop(stopTime=START - 61)
    assert_error(writer.send("POST", "/stop_job/", early), 400, "stopTime", str(START))
    assert_error(stop_by_id(writer, id_, stopTime=START - 61), 400, "stopTime")
    assert len(writer.list("state=running")) == 1


def test_stop_at_the_start_has_a_duration_of_a_second(writer: Client) -> None:
    writer.start()
    assert writer.stop(stopTime=START)["duration"] == 1


@pytest.mark.parametrize("running_start", [START - 7200, START + 7200], ids=["older", "newer"])
def test_running_match_is_preferred_to_finished_ones(writer: Client, running_start: int) -> None:
    writer.start()
    writer.stop()
    id_ = writer.start(startTime=running_start)
    assert writer.stop(stopTime=START + 8000)["id"] == id_


@pytest.mark.parametrize(
    "selection",
    [{"jobId": 5}, {"cluster": "alex"}, {"startTime": START + 1}],
    ids=["other jobId", "other cluster", "other startTime"],
)
def test_selection_without_match_is_refused(writer: Client, selection: dict[str, Any]) -> None:
    writer.start()
    response = writer.send("POST", "/stop_job/", stop(**selection))
    name, value = next(iter(selection.items()))
    assert_error(response, 422, "finding job failed: ", f"{name} {value}")
    assert len(writer.list("state=running")) == 1


def test_unknown_database_id_is_refused(writer: Client) -> None:
    assert_error(stop_by_id(writer, 999_999), 422, "finding job failed", "999999")


def test_several_running_matches_are_listed_and_not_stopped(writer: Client) -> None:
    first = writer.start()
    second = writer.start(cluster="alex")
    third = writer.start(startTime=START + 7200)
    finished = writer.start(startTime=START - 7200)
    stop_by_id(writer, finished)
    response = writer.send("POST", "/stop_job/", stop(stopTime=START + 9000))
    listed = [f"id {id_} " for id_ in (first, second, third)]
    hints = ["fritz", "alex", str(START + 7200), "cluster or startTime"]
    assert_error(response, 422, "finding job failed: ", *listed, *hints)
    assert f"id {finished} " not in response.get_json()["error"]
    assert len(writer.list("state=running")) == 3


def test_long_list_of_matches_is_truncated(writer: Client) -> None:
    for number in range(12):
        writer.start(startTime=START + 100 * number)
    response = writer.send("POST", "/stop_job/", stop(stopTime=START + 9000))
    assert_error(response, 422, "and more")
    assert response.get_json()["error"].count("startTime 17") == 10


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({"cluster": "alex"}, ("alex", START)),
        ({"cluster": "fritz", "startTime": START}, ("fritz", START)),
        ({"startTime": START + 7200}, ("fritz", START + 7200)),
    ],
    ids=["cluster", "cluster and startTime", "startTime"],
)
def test_cluster_and_start_time_narrow_the_selection(
    writer: Client, selection: dict[str, Any], expected: tuple[str, int]
) -> None:
    writer.start()
    writer.start(cluster="alex")
    writer.start(startTime=START + 7200)
    stopped = writer.stop(**selection, stopTime=START + 9000)
    assert (stopped["cluster"], stopped["startTime"]) == expected
    assert len(writer.list("state=running")) == 2


@pytest.mark.parametrize("state", ["failed", "out_of_memory"])
def test_finished_job_is_already_stopped(writer: Client, state: str) -> None:
    id_ = writer.start()
    writer.stop(jobState=state)
    for response in (writer.send("POST", "/stop_job/", stop()), stop_by_id(writer, id_)):
        assert_error(response, 422, "already stopped", state, f"id {id_} ")
    assert [job["jobState"] for job in writer.list()] == [state]


def test_several_finished_matches_are_already_stopped(writer: Client) -> None:
    for number in (0, 1):
        writer.start(startTime=START + 7200 * number)
        writer.stop(stopTime=START + 9000)
    assert_error(writer.send("POST", "/stop_job/", stop()), 422, "already stopped", "completed")


@pytest.mark.parametrize("by_id", [False, True], ids=["by request", "by id"])
def test_one_of_concurrent_stops_succeeds(writer: Client, *, by_id: bool) -> None:
    id_ = writer.start()
    path = f"/stop_job/{id_}" if by_id else "/stop_job/"
    states = [FINAL_STATES[number % 7] for number in range(12)]
    responses = at_once(
        [partial(writer.twin().send, "POST", path, stop(jobState=state)) for state in states]
    )
    assert sorted(response.status_code for response in responses) == [200] + 11 * [422]
    winner = next(response for response in responses if response.status_code == 200)
    [stopped] = writer.list()
    assert stopped["jobState"] == winner.get_json()["jobState"]
    for response in responses:
        assert response is winner or "already stopped" in response.get_json()["error"]


@pytest.mark.parametrize(
    ("at_start", "at_stop"),
    [(0, 0), (1, 3), (2, 3), (3, 3)],
    ids=["disabled", "running", "failed before", "said to be archived"],
)
def test_answer_has_the_result_of_archiving(
    writer: Client, context: Context, at_start: int, at_stop: int
) -> None:
    writer.start(monitoringStatus=at_start)
    assert writer.stop()["monitoringStatus"] == at_stop
    assert writer.list()[0]["monitoringStatus"] == at_stop
    files = list(context.archive_root.rglob("meta.json"))
    assert len(files) == (1 if at_stop == 3 else 0)


@BROKEN_ARCHIVES
def test_stop_succeeds_if_archiving_fails(
    writer: Client,
    context: Context,
    caplog: pytest.LogCaptureFixture,
    break_archive: Break,
) -> None:
    id_ = writer.start()
    break_archive(context.archive_root)
    failures = archive_failures()
    stopped = writer.stop()
    assert (stopped["jobState"], stopped["monitoringStatus"]) == ("completed", 2)
    [listed] = writer.list()
    assert (listed["jobState"], listed["monitoringStatus"]) == ("completed", 2)
    assert archive_failures() == failures + 1
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "123000" in record.getMessage()
    assert f"id {id_}" in record.getMessage()
    assert str(context.archive_root) in record.getMessage()
    assert not list(context.archive_root.rglob("meta.json"))


def test_stop_is_committed_before_the_archive_is_touched(
    writer: Client, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = writer.start()
    hangs, goes_on = threading.Event(), threading.Event()

    def hanging_fsync(_descriptor: int) -> None:
        hangs.set()
        assert goes_on.wait(10)

    monkeypatch.setattr(os, "fsync", hanging_fsync)
    request = threading.Thread(target=writer.twin().stop)
    request.start()
    try:
        assert hangs.wait(10)
        with database.connection() as conn:
            meanwhile = jobs.get(conn, id_)
    finally:
        goes_on.set()
        request.join()
    assert meanwhile is not None
    assert (meanwhile.job_state, meanwhile.stop_time) == ("completed", START + 3600)
    assert meanwhile.monitoring_status == 1
    assert writer.list()[0]["monitoringStatus"] == 3


def test_stop_survives_a_crash_during_archiving(
    writer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.start()
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(os, "fsync", lambda _: os.kill(os.getpid(), signal.SIGKILL))
        writer.twin().stop()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    [stopped] = writer.list()
    assert (stopped["jobState"], stopped["monitoringStatus"]) == ("completed", 1)
    assert_error(writer.send("POST", "/stop_job/", stop()), 422, "already stopped")


def test_stop_needs_the_role_writer(reader: Client, writer: Client) -> None:
    id_ = writer.start()
    assert_error(reader.send("POST", "/stop_job/", stop()), 403, "writer")
    assert_error(stop_by_id(reader, id_), 403, "writer")
    assert [job["id"] for job in writer.list("state=running")] == [id_]


def test_requeued_job_is_stopped_run_by_run(writer: Client) -> None:
    first = writer.start()
    assert writer.stop(jobState="preempted")["id"] == first
    second = writer.send("POST", "/start_job/", job(startTime=START + 4000)).get_json()["id"]
    assert writer.stop(stopTime=START + 5000)["id"] == second
    assert {job["jobState"] for job in writer.list()} == {"preempted", "completed"}
