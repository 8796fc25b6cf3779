"""Start a job: what of it is kept, and when it is the same job as one that is known."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from ccapi import config as settings
from ccapi.config import Config
from ccapi.db.pool import Connection, Database
from ccapi.model.job import JobState
from ccapi.model.token import Role
from tests.client import (
    START,
    Client,
    assert_error,
    assert_nothing_written,
    at_once,
    count,
    full_job,
    job,
)
from tests.conftest import client, serve

# The default, in seconds.
_WINDOW = 60
_LAST_SECOND = 253_402_300_799

EVERYTHING = full_job(
    jobId=2**63 - 1,
    cluster="Fritz.2_test-1",
    arrayJobId=2**63 - 1,
    numNodes=2,
    exclusive=0,
    monitoringStatus=0,
    resources=[
        {
            "hostname": "f0101",
            "hwthreads": [0, 1, 2**63 - 1],
            "accelerators": ["00000000:49:00.0", ""],
            "configuration": "größe=1",
        },
        {"hostname": "f0102.example.org"},
    ],
    metaData={"jobName": "größe", "jobScript": '#!/bin/bash\n"\\\t', "": ""},
)
del EVERYTHING["tags"]


def test_answer_is_201_with_the_database_id(writer: Client) -> None:
    response = writer.send("POST", "/start_job/", job())
    assert response.status_code == 201
    assert response.content_type == "application/json"
    assert response.get_json() == {"id": writer.list()[0]["id"]}


def test_started_job_is_running_with_defaults(writer: Client) -> None:
    id_ = writer.start()
    answer = writer.read(id_)
    assert answer.pop("duration") >= 1
    assert answer == {
        **job(),
        "id": id_,
        "project": "",
        "subCluster": "",
        "numNodes": 1,
        "exclusive": 1,
        "shared": "none",
        "monitoringStatus": 1,
        "jobState": "running",
        "tags": [],
    }


def test_every_field_is_stored(writer: Client) -> None:
    answer = writer.read(writer.start(**EVERYTHING))
    assert {name: answer[name] for name in EVERYTHING} == EVERYTHING


NOTHING: dict[str, Any] = {"partition": "", "metaData": {}, "statistics": {}, "footprint": {}}
NOTHING |= dict.fromkeys(
    ("arrayJobId", "numHwthreads", "numAcc", "smt", "walltime", "submitTime", "energy"), 0
)


@pytest.mark.parametrize("field", NOTHING)
def test_zero_and_empty_mean_not_given(writer: Client, field: str) -> None:
    assert field not in writer.read(writer.start(**{field: NOTHING[field]}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("jobId", 1),
        ("user", "x" * 255),
        ("project", "größe"),
        *(("startTime", value) for value in (1, _LAST_SECOND)),
        *(("cluster", value) for value in ("7", "x" * 64)),
        *(("subCluster", value) for value in ("A.b_c-9", "")),
        *(("exclusive", value) for value in (0, 1, 2)),
        *(("monitoringStatus", value) for value in (0, 1, 2, 3)),
        ("jobState", "running"),
        *(("resources", [{"hostname": host}]) for host in ("h" * 255, "_a-B.9")),
        ("resources", [{"hostname": "f1", "hwthreads": [], "accelerators": []}]),
        ("statistics", {"m": {"unit": "", "avg": 0, "min": 0.0, "max": 1e308}}),
    ],
    ids=lambda value: str(value)[:30],
)
def test_value_at_its_limit_is_stored(writer: Client, field: str, value: Any) -> None:
    assert writer.read(writer.start(**{field: value}))[field] == value


@pytest.mark.parametrize("state", [state for state in JobState if state is not JobState.RUNNING])
def test_final_state_is_refused(writer: Client, database: Database, state: JobState) -> None:
    assert_error(
        writer.send("POST", "/start_job/", job(jobState=state)), 400, "jobState", "running"
    )
    assert_nothing_written(database)


@pytest.mark.parametrize("nodes", [1, 3])
def test_number_of_nodes_must_match_the_resources(
    writer: Client, database: Database, nodes: int
) -> None:
    body = job(numNodes=nodes, resources=[{"hostname": "f1"}, {"hostname": "f2"}])
    assert_error(writer.send("POST", "/start_job/", body), 400, "numNodes", "2")
    assert_nothing_written(database)


@pytest.mark.parametrize("nodes", [0, 2, None])
def test_default_number_of_nodes_is_that_of_the_resources(
    writer: Client, nodes: int | None
) -> None:
    id_ = writer.start(numNodes=nodes, resources=[{"hostname": "f1"}, {"hostname": "f2"}])
    assert writer.read(id_)["numNodes"] == 2


def test_repeated_host_is_refused(writer: Client, database: Database) -> None:
    body = job(resources=[{"hostname": host} for host in ("f1", "f2", "f1")])
    assert_error(writer.send("POST", "/start_job/", body), 400, "resources", "f1")
    assert_nothing_written(database)


def test_repeated_host_is_found_fast(writer: Client) -> None:
    def seconds(hosts: list[str]) -> float:
        body = job(resources=[{"hostname": host} for host in hosts])
        began = time.process_time()
        assert_error(writer.send("POST", "/start_job/", body), 400, "twice")
        return time.process_time() - began

    hosts = [f"f{number}" for number in range(8000)]
    assert seconds([*hosts, hosts[-1]]) < 3 * seconds([hosts[0], *hosts])


def test_id_and_duration_are_ignored(writer: Client) -> None:
    id_ = writer.start(id=2**63 - 1, duration=5, startTime=int(time.time()) - 1000)
    assert 1000 <= writer.read(id_)["duration"] < 1100


def test_client_may_send_back_what_it_read(writer: Client) -> None:
    id_ = writer.start(**EVERYTHING, tags=[{"type": "a", "name": "b"}])
    again = {**writer.read(id_), "startTime": START + 1000}
    again_id = writer.start(**again)
    assert {**writer.read(again_id), "id": 0, "duration": 0} == {**again, "id": 0, "duration": 0}


def test_tags_are_created_with_ids(writer: Client, database: Database) -> None:
    id_ = writer.start(tags=[{"type": "b", "name": "2"}, {"type": "a", "name": "1", "id": 999}])
    with database.connection() as conn:
        ids = {(t, n): i for i, t, n in conn.execute("SELECT id, type, name FROM tags")}
    assert writer.read(id_)["tags"] == [
        {"id": ids["a", "1"], "type": "a", "name": "1"},
        {"id": ids["b", "2"], "type": "b", "name": "2"},
    ]


def test_jobs_with_the_same_tag_share_it(writer: Client, database: Database) -> None:
    tags = [{"type": "a", "name": "b"}]
    first = writer.read(writer.start(tags=tags))
    second = writer.read(writer.start(tags=[*tags, *tags], jobId=5))
    assert first["tags"] == second["tags"]
    assert count(database, "tags") == 1


def test_refused_start_leaves_no_tags(writer: Client, database: Database) -> None:
    writer.start()
    again = job(tags=[{"type": "a", "name": "b"}])
    assert_error(writer.send("POST", "/start_job/", again), 422)
    assert count(database, "tags") == 0


def test_failed_tags_leave_no_job(writer: Client, database: Database) -> None:
    with database.session() as conn:
        conn.execute("ALTER TABLE job_tags ADD CONSTRAINT no_more CHECK (false) NOT VALID")
    try:
        body = job(tags=[{"type": "a", "name": "b"}])
        assert_error(writer.send("POST", "/start_job/", body), 500)
    finally:
        with database.session() as conn:
            conn.execute("ALTER TABLE job_tags DROP CONSTRAINT no_more")
    assert_nothing_written(database)


@pytest.mark.parametrize("shift", [-_WINDOW, -1, 0, 1, _WINDOW])
def test_start_within_the_window_is_a_duplicate(writer: Client, shift: int) -> None:
    id_ = writer.start()
    response = writer.send("POST", "/start_job/", job(startTime=START + shift, user="other"))
    assert_error(response, 422, f"database id is {id_}", "123000", "fritz")
    assert len(writer.list()) == 1


@pytest.mark.parametrize(
    "shift", [-_WINDOW - 1, _WINDOW + 1, -86_400, 86_400], ids=lambda shift: f"{shift:+} s"
)
def test_start_outside_the_window_is_a_new_job(writer: Client, shift: int) -> None:
    ids = [writer.start(), writer.start(startTime=START + shift)]
    assert sorted(known["id"] for known in writer.list()) == ids


@pytest.mark.parametrize("other", [{"cluster": "alex"}, {"jobId": 123001}], ids=str)
def test_other_job_id_or_cluster_is_a_new_job(writer: Client, other: dict[str, Any]) -> None:
    assert writer.start() != writer.start(**other)


def test_stopped_job_is_a_duplicate_too(writer: Client) -> None:
    id_ = writer.start()
    writer.stop()
    assert_error(writer.send("POST", "/start_job/", job()), 422, f"database id is {id_}")


def test_duplicate_error_has_the_nearest_run(writer: Client) -> None:
    writer.start(startTime=START)
    near = writer.start(startTime=START + 100)
    response = writer.send("POST", "/start_job/", job(startTime=START + 55))
    assert_error(response, 422, f"database id is {near}")


def _with_window(config: Config, database: Database, seconds: int) -> Client:
    jobs = replace(config.jobs, duplicate_window=seconds)
    return client(serve(replace(config, jobs=jobs), database), database, Role.WRITER)


def test_window_of_zero_matches_the_same_start_time_only(
    config: Config, database: Database
) -> None:
    writer = _with_window(config, database, 0)
    id_ = writer.start()
    assert len({id_, writer.start(startTime=START - 1), writer.start(startTime=START + 1)}) == 3
    assert_error(writer.send("POST", "/start_job/", job()), 422, f"database id is {id_}")


def test_widest_window_works_at_the_ends_of_time(config: Config, database: Database) -> None:
    writer = _with_window(config, database, 2**31 - 1)
    for end in (1, _LAST_SECOND):
        writer.start(startTime=end)
        assert_error(writer.send("POST", "/start_job/", job(startTime=end)), 422)


def test_one_of_identical_concurrent_starts_is_registered(writer: Client) -> None:
    responses = at_once([lambda: writer.twin().send("POST", "/start_job/", job())] * 16)
    assert sorted(response.status_code for response in responses) == [201] + 15 * [422]
    [known] = writer.list()
    for response in responses:
        assert str(known["id"]) in response.text


def _held_up(writer: Client, database: Database, bodies: list[dict[str, Any]]) -> list[int]:
    """Send starts that all wait for the tag "m", until it is committed; return their statuses."""
    with ThreadPoolExecutor() as pool, database.session() as conn:
        with conn.transaction():
            conn.execute("INSERT INTO tags (type, name) VALUES ('a', 'm')")
            statuses = pool.map(partial(_start, writer), bodies)
            _await_waiting(conn, len(bodies))
        return sorted(statuses)


def _start(writer: Client, body: dict[str, Any]) -> int:
    return writer.twin().send("POST", "/start_job/", body).status_code


def _await_waiting(conn: Connection, number: int) -> None:
    """Return when so many statements wait for a lock."""
    waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    deadline = time.monotonic() + 4
    while conn.execute(waiting).rowcount < number and time.monotonic() < deadline:
        conn.execute("SELECT pg_stat_clear_snapshot()")
        time.sleep(0.01)


def test_one_of_starts_in_older_snapshots_is_registered(writer: Client, database: Database) -> None:
    tags = [{"type": "a", "name": "m"}]
    bodies = [job(startTime=START + n, tags=tags) for n in range(4)]
    assert _held_up(writer, database, bodies) == [201] + 3 * [422]
    assert len(writer.list()) == 1


def test_same_new_tags_in_other_order_do_not_deadlock(writer: Client, database: Database) -> None:
    tags = [{"type": "a", "name": name} for name in "amz"]
    bodies = [job(jobId=1, tags=tags), job(jobId=2, tags=tags[::-1])]
    assert _held_up(writer, database, bodies) == [201, 201]
    assert count(database, "tags") == 3
    assert all(len(known["tags"]) == 3 for known in writer.list())


_CLUSTERS = """
[[clusters]]
name = "fritz"
[[clusters.sub_clusters]]
name = "main"
nodes = "f[0101-0188,0201]"
[[clusters.sub_clusters]]
name = "spr"
nodes = "f[2101-2156]"
[[clusters]]
name = "woody"
"""


@pytest.fixture
def described(config: Config, database: Database, tmp_path: Path) -> Client:
    """Speak to a service whose settings describe two clusters."""
    (tmp_path / "clusters.toml").write_text(_CLUSTERS)
    clusters = settings.load(tmp_path / "clusters.toml", environ={}).clusters
    app = serve(replace(config, clusters=clusters), database)
    return client(app, database, Role.WRITER)


def _unknown_hosts(cluster: str) -> float:
    return REGISTRY.get_sample_value("ccapi_unknown_hosts_total", {"cluster": cluster}) or 0


@pytest.mark.parametrize("cluster", ["frits", "Fritz", "fritz2"])
def test_unknown_cluster_is_refused(described: Client, database: Database, cluster: str) -> None:
    response = described.send("POST", "/start_job/", job(cluster=cluster))
    assert_error(response, 400, "cluster", cluster, "fritz", "woody")
    assert_nothing_written(database)


def test_any_cluster_is_accepted_if_none_is_described(writer: Client) -> None:
    assert writer.read(writer.start(cluster="frits"))["cluster"] == "frits"


@pytest.mark.parametrize(
    ("host", "sub_cluster"),
    [("f0101", "main"), ("f0188", "main"), ("f0201", "main"), ("f2101", "spr"), ("f0189", "")],
)
def test_sub_cluster_follows_from_the_hosts(described: Client, host: str, sub_cluster: str) -> None:
    id_ = described.start(resources=[{"hostname": host}])
    assert described.read(id_)["subCluster"] == sub_cluster


@pytest.mark.parametrize(("reported", "expected"), [("other", "other"), ("", "main")])
def test_reported_sub_cluster_overrides_the_hosts(
    described: Client, reported: str, expected: str
) -> None:
    assert described.read(described.start(subCluster=reported))["subCluster"] == expected


def test_unknown_host_is_accepted_counted_and_logged(
    described: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    before = _unknown_hosts("fritz")
    described.start(resources=[{"hostname": host} for host in ("f0101", "f9001", "f9002")])
    assert _unknown_hosts("fritz") == before + 2
    assert "f9001, f9002" in caplog.text
    assert "f0101" not in caplog.text


def test_known_hosts_are_not_logged(described: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    before = _unknown_hosts("fritz"), _unknown_hosts("woody")
    described.start()
    described.start(cluster="woody", resources=[{"hostname": "w1"}])
    assert (_unknown_hosts("fritz"), _unknown_hosts("woody")) == before
    assert not caplog.records
