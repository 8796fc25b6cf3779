"""GET /jobs/stats/ counts jobs and node-hours for dashboards."""

import time
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from ccapi.config import Config
from ccapi.db.pool import Database, Limits
from ccapi.model.token import Role
from tests.client import START, Client, assert_error
from tests.conftest import client, serve

HOUR = 3600
RANGE = f"range={START}-{START + 10 * HOUR}"


def stats(client: Client, query: str = "") -> dict[str, Any]:
    response = client.send("GET", f"/stats/?{query}")
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.get_json()
    return answer


def ended(client: Client, number: int, *, after: int, hours: int, **fields: Any) -> None:
    """Run a job on as many nodes as its number, some hours after START."""
    start = START + after * HOUR
    hosts = [{"hostname": f"f{node}"} for node in range(number)]
    client.start(jobId=number, startTime=start, resources=hosts, **fields)
    client.stop(jobId=number, stopTime=start + hours * HOUR)


@pytest.fixture
def filled(admin: Client) -> Client:
    ended(admin, 1, after=0, hours=10, user="anna", project="p1", partition="main")
    ended(admin, 2, after=-2, hours=3, user="bert", project="p1")
    ended(admin, 3, after=9, hours=9, user="bert", cluster="alex")
    ended(admin, 4, after=-9, hours=8, user="anna")
    return admin


def test_default_is_node_hours_by_cluster_within_the_range(filled: Client) -> None:
    assert stats(filled, RANGE) == {
        "from": START,
        "to": START + 10 * HOUR,
        "numJobs": 3,
        "nodeHours": 15.0,
        "numGroups": 2,
        "groups": [
            {"cluster": "fritz", "numJobs": 2, "nodeHours": 12.0},
            {"cluster": "alex", "numJobs": 1, "nodeHours": 3.0},
        ],
    }


def test_jobs_are_grouped_by_several_fields(filled: Client) -> None:
    answer = stats(filled, f"{RANGE}&group-by=user&group-by=project&group-by=partition")
    assert answer["groups"] == [
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
    lines = ["user,project,numJobs,nodeHours", "anna,p1,1,10.0", "bert,,1,3.0", "bert,p1,1,2.0"]
    assert response.text.splitlines() == lines


def test_tag_filters(admin: Client) -> None:
    for number in (1, 2):
        admin.start(jobId=number, tags=[{"type": "a", "name": str(number)}])
    assert stats(admin, f"{RANGE}&tag=a:2")["numJobs"] == 1


def test_timeline_counts_running_jobs_at_each_point(filled: Client) -> None:
    answer = stats(filled, f"{RANGE}&timeline&step={2 * HOUR}")
    assert answer["step"] == 2 * HOUR
    first = -(-START // (2 * HOUR)) * 2 * HOUR
    assert answer["timeline"] == [
        {"time": first + 2 * hours * HOUR, "numJobs": jobs, "numNodes": nodes}
        for hours, (jobs, nodes) in enumerate([(1, 1), (1, 1), (1, 1), (1, 1), (2, 4)])
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
        ("group-by=user&group-by=host", "group-by: must be cluster or state"),
        ("sort=user", "sort: must be node-hours or num-jobs"),
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
