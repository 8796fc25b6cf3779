"""GET /jobs/stats/ counts jobs and node-hours for dashboards."""

import time
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from flask import Flask

from ccapi.config import Config
from ccapi.db.pool import Database, Limits
from ccapi.model.token import Role, Scope
from ccapi.service import tokens
from tests.client import START, Client, assert_error
from tests.conftest import client, serve

HOUR = 3600
RANGE = f"range={START}-{START + 10 * HOUR}"


def stats(client: Client, query: str = "") -> dict[str, Any]:
    response = client.send("GET", f"/stats/?{query}")
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.get_json()
    return answer


def without_hours(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key not in {"coreHours", "gpuHours"}}


def ended(client: Client, number: int, *, after: int, hours: int, **fields: Any) -> None:
    """Run a job on as many nodes as its number, some hours after START."""
    start = START + after * HOUR
    hosts = [{"hostname": f"f{node}"} for node in range(number)]
    client.start(jobId=number, startTime=start, resources=hosts, **fields)
    client.stop(jobId=number, stopTime=start + hours * HOUR)


@pytest.fixture
def filled(admin: Client) -> Client:
    anna: dict[str, Any] = {"user": "anna", "project": "p1", "partition": "main"}
    ended(admin, 1, after=0, hours=10, **anna, numHwthreads=72, submitTime=START - 60)
    ended(admin, 2, after=-2, hours=3, user="bert", project="p1", submitTime=START - 3 * HOUR)
    ended(admin, 3, after=9, hours=9, user="bert", cluster="alex", numAcc=6)
    ended(admin, 4, after=-9, hours=8, user="anna")
    return admin


def test_default_is_node_hours_by_cluster_within_the_range(filled: Client) -> None:
    assert stats(filled, RANGE) == {
        "from": START,
        "to": START + 10 * HOUR,
        "numJobs": 3,
        "nodeHours": 15.0,
        "coreHours": 720.0,
        "gpuHours": 6.0,
        "numGroups": 2,
        "groups": [
            {
                "cluster": "fritz",
                "numJobs": 2,
                "nodeHours": 12.0,
                "coreHours": 720.0,
                "gpuHours": 0.0,
            },
            {"cluster": "alex", "numJobs": 1, "nodeHours": 3.0, "coreHours": 0.0, "gpuHours": 6.0},
        ],
    }


def test_jobs_are_grouped_by_several_fields(filled: Client) -> None:
    answer = stats(filled, f"{RANGE}&group-by=user&group-by=project&group-by=partition")
    assert [without_hours(group) for group in answer["groups"]] == [
        {"user": "anna", "project": "p1", "partition": "main", "numJobs": 1, "nodeHours": 10.0},
        {"user": "bert", "project": "", "partition": "", "numJobs": 1, "nodeHours": 3.0},
        {"user": "bert", "project": "p1", "partition": "", "numJobs": 1, "nodeHours": 2.0},
    ]


@pytest.mark.parametrize(
    ("query", "users"),
    [
        ("", ["anna", "bert"]),
        ("sort=node-hours", ["anna", "bert"]),
        ("sort=num-jobs", ["bert", "anna"]),
        ("sort=num-jobs&limit=1", ["bert"]),
        ("state=running", []),
        ("state=completed&user=bert", ["bert"]),
        ("num-nodes=3-9", ["bert"]),
        ("host=f0&project=p1&partition=main", ["anna"]),
    ],
)
def test_groups_are_sorted_limited_and_filtered(
    filled: Client, query: str, users: list[str]
) -> None:
    answer = stats(filled, f"{RANGE}&group-by=user&{query}")
    assert [group["user"] for group in answer["groups"]] == users
    if "limit" in query:
        assert (answer["numGroups"], answer["numJobs"], answer["nodeHours"]) == (2, 3, 15.0)


def test_groups_as_csv(filled: Client) -> None:
    query = f"{RANGE}&group-by=user&group-by=project&format=csv"
    response = filled.send("GET", f"/stats/?{query}")
    assert response.content_type.startswith("text/csv")
    assert response.text.splitlines() == [
        "user,project,numJobs,nodeHours,coreHours,gpuHours",
        "anna,p1,1,10.0,720.0,0.0",
        "bert,,1,3.0,0.0,6.0",
        "bert,p1,1,2.0,0.0,0.0",
    ]


def test_waits_and_end_states_as_csv(filled: Client) -> None:
    query = f"{RANGE}&group-by=user&format=csv&waits&end-states"
    assert filled.send("GET", f"/stats/?{query}").text.splitlines() == [
        "user,numJobs,nodeHours,coreHours,gpuHours,median,p90,p99,states,failureRate",
        'anna,1,10.0,720.0,0.0,60,60,60,"{""completed"":1}",0.0',
        'bert,2,5.0,0.0,6.0,3600,3600,3600,"{""completed"":2}",0.0',
    ]


def test_waits_and_failure_rate_of_groups(admin: Client) -> None:
    for number, state in enumerate(["failed", "node_fail", "timeout", "completed"], 1):
        admin.start(jobId=number, submitTime=START - number)
        admin.stop(jobId=number, jobState=state)
    admin.start(jobId=9, user="bert")
    answer = stats(admin, f"{RANGE}&waits&end-states&group-by=user")
    running, finished = sorted(answer["groups"], key=lambda group: -len(group["user"]))[::-1]
    assert finished["waits"] == answer["waits"] == {"median": 2, "p90": 4, "p99": 4}
    assert finished["states"] == {"failed": 1, "node_fail": 1, "timeout": 1, "completed": 1}
    assert finished["failureRate"] == answer["failureRate"] == 0.5
    assert (running["states"], running.keys() & {"waits", "failureRate"}) == ({"running": 1}, set())


def test_job_is_in_the_group_of_each_host_and_day(admin: Client) -> None:
    ended(admin, 2, after=0, hours=5, numHwthreads=8)
    ended(admin, 1, after=1, hours=1)
    answer = stats(admin, f"{RANGE}&group-by=host&group-by=day&sort=group")
    # START is 22:13:20 in UTC.
    assert [(g["host"], g["day"], g["numJobs"], g["nodeHours"]) for g in answer["groups"]] == [
        ("f0", "2023-11-14", 2, 2.556),
        ("f0", "2023-11-15", 2, 3.444),
        ("f1", "2023-11-14", 1, 1.778),
        ("f1", "2023-11-15", 1, 3.222),
    ]
    assert [g["coreHours"] for g in answer["groups"]] == [7.111, 12.889, 7.111, 12.889]
    assert (answer["numJobs"], answer["nodeHours"], answer["coreHours"]) == (2, 11.0, 40.0)


def test_histogram_has_a_bin_for_each_power_of_two(filled: Client) -> None:
    answer = stats(filled, f"{RANGE}&histogram=num-nodes&histogram=wait")
    assert answer["histograms"]["num-nodes"] == [
        {"from": 1, "to": 2, "numJobs": 1},
        {"from": 2, "to": 4, "numJobs": 2},
    ]
    wait = answer["histograms"]["wait"]
    assert [(each["from"], each["numJobs"]) for each in wait if each["numJobs"]] == [
        (32, 1),
        (2048, 1),
    ]
    assert "histograms" not in stats(filled, RANGE)


def test_grouping_by_name_needs_metadata(app: Flask, admin: Client, database: Database) -> None:
    admin.start(metaData={"jobName": "rotor"})
    assert stats(admin, f"{RANGE}&group-by=name")["groups"][0]["name"] == "rotor"
    secret = tokens.create(database, "a", Role.READER, scope=Scope(sees_metadata=False))
    response = Client(app.test_client(), secret).send("GET", f"/stats/?{RANGE}&group-by=name")
    assert_error(response, 403, "group-by: this token does not see metadata")


def test_tag_filters(admin: Client) -> None:
    for number in (1, 2):
        admin.start(jobId=number, tags=[{"type": "a", "name": str(number)}])
    assert stats(admin, f"{RANGE}&tag=a:2")["numJobs"] == 1


def test_timeline_counts_running_jobs_at_each_point(filled: Client) -> None:
    answer = stats(filled, f"{RANGE}&timeline&step={2 * HOUR}")
    assert answer["step"] == 2 * HOUR
    first = -(-START // (2 * HOUR)) * 2 * HOUR
    assert answer["timeline"] == [
        {
            "time": first + 2 * hours * HOUR,
            "numJobs": jobs,
            "numNodes": nodes,
            "numCores": 72,
            "numGpus": gpus,
        }
        for hours, (jobs, nodes, gpus) in enumerate([*4 * [(1, 1, 0)], (2, 4, 6)])
    ]
    assert stats(filled, f"{RANGE}&step={2 * HOUR}") == answer
    assert "timeline" not in stats(filled, f"{RANGE}&step={2 * HOUR}&timeline=false")
    assert stats(filled, f"{RANGE}&timeline")["step"] == 120


def test_default_range_is_the_last_day_until_now(
    admin: Client,
) -> None:
    now = int(time.time())
    admin.start(jobId=1, startTime=now - 3 * HOUR)
    admin.start(jobId=2, startTime=now - 99 * 24 * HOUR, cluster="alex")
    ended(admin, 3, after=0, hours=1)
    answer = stats(admin, "step=3600")
    assert answer["to"] - answer["from"] == 24 * HOUR
    assert now <= answer["to"] <= time.time()
    hours = {group["cluster"]: group["nodeHours"] for group in answer["groups"]}
    assert hours["alex"] == 24
    assert 3 <= hours["fritz"] < 4
    assert answer["timeline"][-1]["numJobs"] == 2


@pytest.mark.parametrize(
    ("query", "number"), [("start-time={}-{}", 2), ("stop-time={}-{}", 1), ("range={}-{}", 3)]
)
def test_default_range_is_start_time_or_stop_time(filled: Client, query: str, number: int) -> None:
    answer = stats(filled, query.format(START, START + 9 * HOUR))
    assert (answer["from"], answer["to"]) == (START, START + 9 * HOUR)
    assert answer["numJobs"] == number


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("range=5", "range: must be FROM-TO in epoch seconds"),
        ("range=2-1", "range: must be FROM-TO in epoch seconds, FROM not after TO"),
        ("range=0-99999999999", "range: must be at most 366 days long"),
        (f"range={2**62}-{2**62}", "range: must end at 253402300799 at the latest"),
        ("group-by=", "group-by: must be cluster or state or user or project or partition"),
        ("group-by=user&group-by=node", "group-by: must be cluster or state"),
        ("group-by=day&group-by=week", "group-by: must have only one of day, week and month"),
        ("sort=user", "sort: must be node-hours or num-jobs"),
        ("waits=x", "waits: must be true, false, 1 or 0"),
        ("histogram=user", "histogram: must be duration or num-nodes"),
        ("format=csv&histogram=wait", "histogram: cannot be combined with format=csv"),
        ("format=csv&distinct", "distinct: cannot be combined with format=csv"),
        ("sort=num-jobs&sort=num-jobs", "sort: must not be repeated"),
        ("limit=0", "limit: must be an integer from 1"),
        ("limit=10001", "limit: must be at most 10000"),
        ("timeline=x", "timeline: must be true, false, 1 or 0"),
        ("step=0", "step: must be an integer from 1"),
        ("step=1", "step: must be at least 44 seconds"),
        ("state=done", "state: must be running or"),
        ("format=xml", "format: must be json or csv"),
        ("format=csv&step=60", "timeline: cannot be combined with format=csv"),
        ("page=1", "page: is unknown"),
        ("cursor=", "cursor: is unknown"),
    ],
)
def test_invalid_query_is_refused(reader: Client, query: str, said: str) -> None:
    assert_error(reader.send("GET", f"/stats/?{query}"), 400, said)


def test_statistics_are_cached_apart_from_the_list(config: Config, database: Database) -> None:
    app = serve(replace(config, jobs=replace(config.jobs, list_cache_seconds=30)), database)
    reader, admin = (client(app, database, role) for role in (Role.READER, Role.ADMIN))
    query = f"start-time={START}-{START + HOUR}"
    first = reader.send("GET", f"/stats/?{query}")
    admin.start()
    assert reader.send("GET", f"/stats/?{query}").data == first.data
    assert len(reader.list(query)) == 1
    again = reader.send("GET", f"/stats/?{query}", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304
    assert stats(admin, query)["numJobs"] == 1


def test_slow_statistics_are_503_with_advice(config: Config, database: Database) -> None:
    hurried = Database(config.database.url, Limits(statement_timeout=0.2))
    reader = client(serve(config, hurried), database, Role.READER)
    with database.transaction() as conn:
        conn.execute("LOCK TABLE jobs")
        response = reader.send("GET", "/stats/")
    assert_error(response, 503, "too long", "a shorter range")
    hurried.close()


def test_long_and_unusual_names_are_counted(
    admin: Client,
) -> None:
    rng = Random(1)
    user, project, partition = (
        "".join(chr(rng.randrange(0x20000, 0x2A000)) for _ in range(255)) for _ in range(3)
    )
    admin.start(user=user, project=project, partition=partition, cluster="c" * 64)
    admin.stop()
    [group] = stats(admin, f"{RANGE}&group-by=user&group-by=partition")["groups"]
    assert (group["user"], group["partition"]) == (user, partition)


def test_query_of_a_list_is_refused(admin: Client) -> None:
    """Right queries are remembered, each with what it was for."""
    admin.list("page=1")
    assert_error(admin.send("GET", "/stats/?page=1"), 400, "page: ")
    admin.list("page=1")


def test_two_jobs_on_a_host_are_one_node(admin: Client) -> None:
    for number, threads in ((1, [0, 1]), (2, [1, 2, 3])):
        node = {"hostname": "f1", "hwthreads": threads, "accelerators": [str(number)]}
        start = START + number * HOUR
        admin.start(jobId=number, startTime=start, resources=[node])
        admin.stop(jobId=number, startTime=start, stopTime=start + 2 * HOUR)
    answer = stats(admin, f"{RANGE}&distinct&step={HOUR}")
    assert answer["nodeHours"] == 4
    assert answer["distinct"] == {
        "nodes": 1,
        "cores": 4,
        "gpus": 2,
        "nodeHours": 3.0,
        "coreHours": 9.0,
        "gpuHours": 4.0,
    }
    used = [
        (point["numNodes"], point["distinctNodes"], point["distinctCores"], point["distinctGpus"])
        for point in answer["timeline"]
    ]
    assert used == [(0, 0, 0, 0), (1, 1, 2, 1), (2, 1, 4, 2), (1, 1, 3, 1), *6 * [(0, 0, 0, 0)]]
    assert "distinct" not in stats(admin, RANGE)
    assert stats(admin, f"{RANGE}&distinct&user=nobody")["distinct"]["nodes"] == 0


def test_distinct_nodes_of_a_limited_token(app: Flask, admin: Client, database: Database) -> None:
    for number, user in enumerate(["anna", "bert"], 1):
        admin.start(jobId=number, user=user, resources=[{"hostname": f"f{number}"}])
    secret = tokens.create(database, "a", Role.READER, scope=Scope(users=("anna",)))
    client = Client(app.test_client(), secret)
    answer = stats(client, f"{RANGE}&distinct&step={HOUR}&group-by=host&histogram=num-nodes")
    assert [group["host"] for group in answer["groups"]] == ["f1"]
    assert answer["distinct"]["nodes"] == 1
    assert {point["distinctNodes"] for point in answer["timeline"]} <= {0, 1}
    assert answer["histograms"]["num-nodes"] == [{"from": 1, "to": 2, "numJobs": 1}]
