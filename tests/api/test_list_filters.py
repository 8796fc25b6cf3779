"""GET /jobs/ shows the jobs that a dashboard asks for."""

from typing import Any
from urllib.parse import quote

import pytest

from ccapi.db.pool import Database
from tests.client import START, Client, assert_error

HOSTS = {1: ["f1"], 2: ["f1", "f2"], 3: ["f2", "f3", "f10"]}
JOBS: dict[int, dict[str, Any]] = {
    1: {"user": "anna", "project": "p1", "partition": "main", "tags": [{"type": "a", "name": "b"}]},
    2: {"user": "bert", "project": "p1", "arrayJobId": 2, "subCluster": "spr"},
    3: {"user": "bert", "arrayJobId": 2, "tags": [{"type": "a", "name": "b:c"}]},
}
# Seconds that each took; the third one runs.
TOOK = {1: 10, 2: 3600}


@pytest.fixture
def filled(admin: Client) -> Client:
    for number, fields in JOBS.items():
        hosts = [{"hostname": host} for host in HOSTS[number]]
        start = START + number
        admin.start(jobId=number, startTime=start, resources=hosts, **fields)
        if number in TOOK:
            admin.stop(jobId=number, stopTime=start + TOOK[number])
    return admin


def job_ids(client: Client, query: str) -> list[int]:
    return sorted(job["jobId"] for job in client.list(query))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("user=anna", [1]),
        ("user=bert", [2, 3]),
        ("user=ann", []),
        ("user=bert&project=p1", [2]),
        ("project=", [3]),
        ("partition=main", [1]),
        ("sub-cluster=spr", [2]),
        ("sub-cluster=", [1, 3]),
        ("job-id=3", [3]),
        ("array-job-id=2", [2, 3]),
        ("host=f1", [1, 2]),
        ("host=f2", [2, 3]),
        ("host=f10", [3]),
        ("host=f", []),
        ("host=f1&user=bert&state=completed", [2]),
        ("tag=a:b", [1]),
        ("tag=a:b:c", [3]),
        ("tag=a:nothing", []),
        ("num-nodes=1-2", [1, 2]),
        ("num-nodes=3-3", [3]),
        ("duration=10-10", [1]),
        ("duration=11-4000", [2]),
        ("duration=4000-9999999999", [3]),
        (f"stop-time={START + 11}-{START + 11}", [1]),
        (f"stop-time={START}-{START + 10000}", [1, 2]),
        (f"start-time={START + 2}-{START + 3}&stop-time=1-9999999999", [2]),
    ],
)
def test_filter_selects_matching_jobs(filled: Client, query: str, expected: list[int]) -> None:
    assert job_ids(filled, query) == expected
    assert job_ids(filled, f"{query}&items-per-page=9999999") == expected


def test_cursor_continues_within_the_filter(filled: Client) -> None:
    seen, cursor = [], ""
    while True:
        query = f"/?user=bert&items-per-page=1&cursor={cursor}"
        page = filled.send("GET", query).get_json()
        seen += [job["jobId"] for job in page["jobs"]]
        if not (cursor := page["nextCursor"]):
            break
    assert seen == [3, 2]


def test_name_may_be_any_text(admin: Client) -> None:
    name = "größe 100% '\"\\ {x}:%s"
    admin.start(user=name, project=name, partition=name, tags=[{"type": name, "name": name}])
    for query in (f"user={quote(name)}", f"project={quote(name)}", f"partition={quote(name)}"):
        assert len(admin.list(query)) == 1
    assert admin.list(f"tag={quote(name)}:x") == []


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("user=", "user: must be"),
        ("user=a%00b", "user: must not contain a NUL"),
        ("partition=", "partition: must be"),
        ("job-id=0", "job-id: must be an integer"),
        ("job-id=x", "job-id: must be an integer"),
        ("array-job-id=99999999999999999999", "array-job-id: must be an integer"),
        ("host=a b", "host: must be 1 to 255 letters"),
        ("host=", "host: must be 1 to 255 letters"),
        ("tag=a", "tag: must be TYPE:NAME"),
        ("tag=:b", "tag: must be TYPE:NAME"),
        ("tag=a:", "tag: must be TYPE:NAME"),
        ("num-nodes=2", "num-nodes: must be FROM-TO in nodes"),
        ("num-nodes=2-1", "num-nodes: must be FROM-TO in nodes, FROM not after TO"),
        ("duration=1--", "duration: must be FROM-TO in seconds"),
        ("stop-time=2-1", "stop-time: must be FROM-TO in epoch seconds"),
        ("User=x", "User: "),
    ],
)
def test_invalid_filter_is_refused(reader: Client, query: str, said: str) -> None:
    assert_error(reader.send("GET", f"/?{query}"), 400, said)


def test_invalid_unicode_is_refused(reader: Client) -> None:
    for query in ("user=%ff", "project=%ed%a0%80", "tag=a:%ff"):
        assert reader.send("GET", f"/?{query}").status_code in {200, 400}


def test_first_jobs_of_a_host_may_start_concurrently(admin: Client, database: Database) -> None:
    with database.session() as conn, conn.transaction():
        conn.execute("SELECT register_hosts(ARRAY['new', 'newer'])")
        admin.start(jobId=1, resources=[{"hostname": "newer"}, {"hostname": "new"}])
    admin.start(jobId=2, resources=[{"hostname": "new"}])
    assert [job["jobId"] for job in admin.list("host=new")] == [2, 1]


# Latest start first; of two that started at once, the later registered.
OF_OLD_HOST = sorted(range(1, 61), key=lambda number: (number > 50, number // 2, -number))


@pytest.fixture
def old_host(admin: Client) -> Client:
    """A host that is asked for years later: its jobs, 60 on 30 days, among those of another."""
    for number in range(1, 61):
        start = START - 86_400 * (400 * (number > 50) + number // 2)
        admin.start(jobId=number, startTime=start, resources=[{"hostname": "old"}])
    admin.start(jobId=100, startTime=START + 9 * 365 * 86_400, resources=[{"hostname": "new"}])
    admin.start(jobId=101, startTime=1, resources=[{"hostname": "new"}])
    return admin


def test_old_jobs_of_a_host_are_found_page_by_page(old_host: Client) -> None:
    pages = [old_host.list(f"host=old&items-per-page=7&page={page}") for page in range(1, 11)]
    assert [job["jobId"] for page in pages for job in page] == OF_OLD_HOST
    assert [len(page) for page in pages] == [7] * 8 + [4, 0]
    assert [job["jobId"] for job in old_host.list("host=old&items-per-page=1000")] == OF_OLD_HOST


def test_jobs_of_a_host_continue_after_a_cursor(old_host: Client) -> None:
    cursor, numbers = "", []
    while True:
        answer = old_host.send("GET", f"/?host=old&items-per-page=9&cursor={cursor}").get_json()
        numbers += [job["jobId"] for job in answer["jobs"]]
        cursor = answer["nextCursor"]
        if not cursor:
            break
    assert numbers == OF_OLD_HOST
    bounds = f"{START - 86_400 * 426}-{START - 86_400 * 20}"
    within = old_host.send("GET", f"/?host=old&start-time={bounds}&total").get_json()
    assert sorted(job["jobId"] for job in within["jobs"]) == [*range(40, 54)]
    assert within["total"] == 14
    assert old_host.list(f"host=new&start-time={bounds}") == []
