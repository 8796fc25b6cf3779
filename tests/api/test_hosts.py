"""GET /api/hosts/ reports running jobs, failures and idle hosts."""

import time
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from flask import Flask

from ccapi.config import Config
from ccapi.context import Context
from ccapi.db.pool import Database
from ccapi.model.cluster import Cluster, Clusters
from ccapi.model.job import FAILURES, FINAL_STATES, NewJob
from ccapi.model.token import Role, Scope
from ccapi.repository import bulk_insert
from ccapi.service import tokens
from tests.client import START, Client, assert_error
from tests.conftest import serve

HOUR = 3600
RANGE = f"range={START}-{START + 10 * HOUR}"


def hosts(client: Client, query: str = RANGE) -> dict[str, dict[str, Any]]:
    response = client.send("GET", f"/api/hosts/?{query}")
    assert response.status_code == 200, response.text
    return {host["host"]: host for host in response.get_json()["hosts"]}


def ended(admin: Client, number: int, *names: str, state: str = "failed", **fields: Any) -> None:
    resources = [{"hostname": name} for name in names]
    admin.start(jobId=number, startTime=START + number, resources=resources, **fields)
    admin.stop(jobId=number, stopTime=START + HOUR, jobState=state)


def test_host_has_its_jobs_their_ends_and_the_last_one(admin: Client) -> None:
    ended(admin, 1, "f1", "f2")
    ended(admin, 2, "f1", state="timeout")
    running = admin.start(jobId=3, startTime=START + 3, resources=[{"hostname": "f2"}])
    ended(admin, 4, "a1", cluster="alex", state="completed")
    assert hosts(admin)["f2"] == {
        "cluster": "fritz",
        "host": "f2",
        "numRunning": 1,
        "numJobs": 2,
        "numEnded": 1,
        "numFailures": 1,
        "failureRate": 1.0,
        "clusterFailureRate": 0.6667,
        "standsOut": False,
        "isIdle": False,
        "lastJob": {"id": running, "jobId": 3, "startTime": START + 3},
    }
    answer = hosts(admin, f"{RANGE}&idle=true")
    assert {name: host["failureRate"] for name, host in answer.items()} == {"a1": 0.0, "f1": 0.5}


def test_ends_outside_the_range_do_not_count(admin: Client) -> None:
    ended(admin, 1, "f1")
    host = hosts(admin, f"range={START}-{START + HOUR - 1}")["f1"]
    assert (host["numJobs"], host["numEnded"]) == (1, 0)
    assert "failureRate" not in host
    assert hosts(admin, f"range={START + HOUR + 1}-{START + 2 * HOUR}") == {}


def test_default_range_is_the_last_day(admin: Client) -> None:
    now = int(time.time())
    admin.start(jobId=1, startTime=now - 60, resources=[{"hostname": "f1"}])
    ended(admin, 2, "f2")
    response = admin.send("GET", "/api/hosts/").get_json()
    assert [host["host"] for host in response["hosts"]] == ["f1"]
    assert response["to"] - response["from"] == 24 * HOUR
    assert hosts(admin, f"range={now - 30}-").keys() == {"f1"}


def test_counts_equal_a_scan_of_the_jobs(admin: Client, database: Database) -> None:
    rng = Random(3)
    jobs = []
    for number in range(1, 200):
        start = START + rng.randrange(20 * HOUR) - 5 * HOUR
        names = rng.sample(["f1", "f2", "f3"], rng.choice([1, 2]))
        job = NewJob(
            job_id=number,
            user_name=rng.choice(["anna", "bert"]),
            cluster="fritz",
            start_time=start,
            resources=[{"hostname": name} for name in names],
        )
        if rng.random() < 0.8:
            job = replace(
                job, job_state=rng.choice(FINAL_STATES), stop_time=start + rng.randrange(9 * HOUR)
            )
        jobs.append(job)
    with database.transaction() as conn:
        bulk_insert.load(conn, jobs)
    end = START + 10 * HOUR
    for name, host in hosts(admin).items():
        of_host = [job for job in jobs if name in job.hostnames and job.start_time <= end]
        ran = [job for job in of_host if job.stop_time is None or job.stop_time >= START]
        ends = [job for job in ran if job.stop_time is not None and job.stop_time <= end]
        assert host["numRunning"] == sum(job.stop_time is None for job in ran)
        assert (host["numJobs"], host["numEnded"]) == (len(ran), len(ends))
        assert host["numFailures"] == sum(job.job_state in FAILURES for job in ends)
        assert host["lastJob"]["startTime"] == max(job.start_time for job in ran)


@pytest.fixture
def with_bad_host(admin: Client, database: Database) -> Client:
    """Run 20 jobs on each of 50 hosts; on one of them most fail, and on another those of a user."""
    jobs = []
    for number in range(1_000):
        host, turn = number % 50, number // 50
        fails = turn % 20 == 0 or (host in {7, 9} and turn % 4)
        jobs.append(
            NewJob(
                job_id=number + 1,
                user_name="anna" if host == 9 else f"user{turn}",
                cluster="fritz",
                start_time=START + number,
                stop_time=START + number + 60,
                job_state="node_fail" if fails else "completed",
                resources=[{"hostname": f"f{host}"}],
            )
        )
    with database.transaction() as conn:
        bulk_insert.load(conn, jobs)
    return admin


def test_bad_host_stands_out(with_bad_host: Client) -> None:
    assert hosts(with_bad_host, f"{RANGE}&stands-out").keys() == {"f7"}
    everything = hosts(with_bad_host)
    assert len(everything) == 50
    assert everything["f9"]["failureRate"] == everything["f7"]["failureRate"] == 0.8


def test_hosts_as_csv(with_bad_host: Client) -> None:
    response = with_bad_host.send("GET", f"/api/hosts/?{RANGE}&format=csv&host=f7")
    head, line = response.text.splitlines()
    assert head.startswith("cluster,host,numRunning,numJobs,numEnded,numFailures,failureRate")
    assert line.startswith("fritz,f7,0,20,20,16,0.8,")


def test_idle_hosts_are_those_of_nodestate_and_settings(
    app: Flask, admin: Client, context: Context
) -> None:
    described = Cluster.of("fritz", {"main": ["f1", "f2", "f3", "f4"]})
    app.extensions["ccapi"] = replace(context, clusters=Clusters((described,)))
    nodes = [
        {"hostname": "f2", "states": ["DOWN"]},
        {"hostname": "f3", "states": ["IDLE"]},
        {"hostname": "f5", "states": ["idle", "drain"]},
    ]
    response = admin.send("POST", "/api/nodestate/", {"cluster": "fritz", "nodes": nodes})
    assert response.status_code == 201
    admin.start(startTime=START, resources=[{"hostname": "f1"}])
    answer = hosts(admin)
    assert {name for name, host in answer.items() if host["isIdle"]} == {"f3", "f4", "f5"}
    assert answer["f2"]["states"] == ["DOWN"]
    assert "states" not in answer["f4"]
    assert hosts(admin, f"{RANGE}&cluster=alex") == {}
    assert hosts(admin, f"{RANGE}&idle=false").keys() == {"f1", "f2"}


def test_limited_token_sees_its_own_jobs_hosts_only(
    app: Flask, with_bad_host: Client, database: Database
) -> None:
    nodes = [{"hostname": "f9", "states": ["idle"]}]
    with_bad_host.send("POST", "/api/nodestate/", {"cluster": "fritz", "nodes": nodes})
    scope = Scope(users=("anna",))
    secret = tokens.create(database, "a", Role.READER, scope=scope)
    [host] = hosts(Client(app.test_client(), secret)).values()
    assert (host["host"], host["numJobs"], host["clusterFailureRate"]) == ("f9", 20, 0.8)
    assert (host["isIdle"], "states" in host) == (False, False)


def test_hosts_are_cached_for_readers(config: Config, database: Database) -> None:
    app = serve(replace(config, jobs=replace(config.jobs, list_cache_seconds=30)), database)
    secret = tokens.create(database, "r", Role.READER)
    reader = Client(app.test_client(), secret)
    assert hosts(reader) == {}
    Client(app.test_client(), tokens.create(database, "w", Role.WRITER)).start()
    assert hosts(reader) == {}


def test_metric_counts_failing_hosts_of_the_last_day(
    config: Config, database: Database, with_bad_host: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert with_bad_host.token
    monkeypatch.setattr("ccapi.service.metrics.time.time", lambda: START + HOUR)
    app = serve(config, database)
    headers = {"X-Auth-Token": tokens.create(database, "p", Role.READER)}
    text = app.test_client().get("/metrics", headers=headers).text
    assert 'ccapi_failing_hosts{cluster="fritz"} 1.0' in text.splitlines()


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("cluster=a/b", "cluster: must be"),
        ("host=a b", "host: must be 1 to 255 letters"),
        ("range=5", "range: must be FROM-TO in epoch seconds"),
        ("range=0-99999999", "range: must be at most 31 days long"),
        (f"range={2**62}-{2**62}", "range: must end at"),
        ("stands-out=x", "stands-out: must be true, false, 1 or 0"),
        ("idle=x", "idle: must be true, false, 1 or 0"),
        ("format=xml", "format: must be json or csv"),
        ("user=anna", "user: is unknown"),
    ],
)
def test_wrong_query_is_refused(reader: Client, query: str, said: str) -> None:
    assert_error(reader.send("GET", f"/api/hosts/?{query}"), 400, said)
