"""What the first page of each list reads: an index, and no more of it the larger the table."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from ccapi.db import queries
from ccapi.db.pool import Database
from ccapi.model.job import FINAL_STATES, JobFilter, Range, Tag
from ccapi.model.statistics import GroupBy, Points, StatisticsQuery
from ccapi.repository import job_list, statistics
from tests.client import START

JOBS = 60_000
RUNNING = 300
LIMIT = 26
LAST = START + 30 * JOBS
# Rows that a list may look at for each one that it shows. Most jobs are completed ones of the
# large cluster, so that nothing more common than these is ever passed over.
MOST_LOOKED_AT = 8 * LIMIT
# The same where two conditions meet, or the bounds of an hour are found in whole pages.
MOST_FILTERED = 80 * LIMIT
# Entries of an index that a bitmap takes in the time of one row.
_ENTRIES = 10
_FILL = """
INSERT INTO jobs (job_id, start_time, stop_time, job_state, num_nodes, exclusive,
                  monitoring_status, cluster, sub_cluster, partition, array_job_id,
                  user_name, project, resources)
SELECT n, %(start)s + 30 * n,
       CASE WHEN n <= %(finished)s THEN %(start)s + 30 * n + 60 END,
       CASE WHEN n > %(finished)s THEN 'running'
            WHEN n %% 2000 = 0 THEN 'out_of_memory'
            WHEN n %% 24 = 0 THEN 'failed'
            WHEN n %% 24 = 5 THEN 'timeout'
            ELSE 'completed' END::job_state,
       CASE WHEN n %% 1000 = 7 AND n < 10000 THEN 64 WHEN n %% 3 = 0 THEN 2 ELSE 1 END,
       1, CASE WHEN n <= %(finished)s THEN 3 ELSE 1 END,
       CASE WHEN n %% 10 = 3 THEN 'alex' ELSE 'fritz' END,
       CASE WHEN n %% 1000 = 7 AND n < 10000 THEN 'old' ELSE 'main' END,
       CASE WHEN n %% 1000 = 7 AND n < 10000 THEN 'old' ELSE 'main' END,
       CASE WHEN n %% 12 = 0 THEN n / 120 + 1 END,
       CASE WHEN n %% 4 = 0 THEN 'busy' WHEN n %% 3 = 0 AND n < 30000 THEN 'gone'
            WHEN n IN (7, 19) THEN 'rare' ELSE 'abcd' || n %% 500 END,
       CASE WHEN n %% 4 = 0 THEN 'busy' WHEN n %% 3 = 0 AND n < 30000 THEN 'gone'
            WHEN n IN (7, 19) THEN 'rare' ELSE 'abcd' || n %% 90 END,
       CASE WHEN n %% 1000 = 7 AND n < 10000 THEN '[{"hostname":"old"}]'
            ELSE '[{"hostname":"f' || n %% 900 || '"}]' END::json
FROM generate_series(1, %(jobs)s) AS n
"""
_TAG = """
INSERT INTO job_tags
SELECT j.id, t.id
FROM jobs AS j
JOIN tags AS t ON CASE t.name WHEN 'rare' THEN job_id < 9 ELSE job_id % 4 = 1 END
"""


@pytest.fixture(scope="module")
def large(_migrated: Database) -> Iterator[Database]:
    """As many jobs as make the planner think of a large table, in the order of their starts.

    One in 12 ends unusually, one in 2,000 out of memory, none preempted; a tenth belongs to
    the small cluster, which was set up lately. A quarter is of one user and project, a third of
    the first half of others who are gone. A host, a partition and large jobs are of the past.
    """
    with _migrated.session() as conn:
        conn.execute(_FILL, {"start": START, "jobs": JOBS, "finished": JOBS - RUNNING})
        conn.execute("SELECT register_hosts(array_agg('f' || n)) FROM generate_series(0, 899) AS n")
        conn.execute("SELECT register_hosts(ARRAY['old'])")
        conn.execute("INSERT INTO tags (type, name) VALUES ('a', 'rare'), ('a', 'common')")
        conn.execute(_TAG)
        # Where earlier rows left room, the fill is not in order on disk.
        conn.execute("CLUSTER jobs USING jobs_by_start_time")
        conn.execute("ALTER TABLE jobs SET WITHOUT CLUSTER")
        conn.execute("VACUUM (ANALYZE) jobs")
        conn.execute("VACUUM (ANALYZE) job_tags")
    yield _migrated
    with _migrated.session() as conn:
        # A deletion would leave other tests a file with much room in it.
        conn.execute("TRUNCATE jobs CASCADE")
        conn.execute("DELETE FROM hosts")
        conn.execute("DELETE FROM tags")


def plan(
    database: Database,
    states: list[str],
    *,
    tag: Tag | None = None,
    host: str | None = None,
    **wanted: Any,
) -> dict[str, Any]:
    """Run the list and return its plan as PostgreSQL tells it."""
    with database.connection() as conn:
        chosen = job_list.filter_params(conn, JobFilter(states=states, tag=tag, host=host))
    parameters = {
        **chosen,
        **job_list.list_params(job_list.Page(0, LIMIT), job_list.Columns()),
        **wanted,
    }
    return explained(database, "job_list", "list_jobs", parameters)


def explained(
    database: Database, file: str, name: str, parameters: dict[str, Any]
) -> dict[str, Any]:
    explain = "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) " + queries.load(file)[name]
    with database.connection() as conn:
        row = conn.execute(explain.encode(), parameters, prepare=False).fetchone()
    assert row is not None
    found: dict[str, Any] = row[0][0]["Plan"]
    return found


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


def rows(node: dict[str, Any]) -> int:
    """Count the rows that a node produced or threw away, over all its loops."""
    thrown = sum(value for name, value in node.items() if name.startswith("Rows Removed"))
    return int(node["Actual Loops"] * (node["Actual Rows"] + thrown))


def assert_reads_little(found: dict[str, Any], most: int = MOST_LOOKED_AT) -> None:
    """Check that no node walks through the table or sorts more than a page."""
    text = json.dumps(found, indent=1)
    for node in nodes(found):
        assert not (node["Node Type"] == "Seq Scan" and node["Relation Name"] == "jobs"), text
        if node["Node Type"] == "Sort":
            assert rows(node["Plans"][0]) <= most, text
        if "Scan" in node["Node Type"]:
            entries = _ENTRIES if node["Node Type"] == "Bitmap Index Scan" else 1
            assert rows(node) <= most * entries, text


STATES: dict[str, list[str]] = {
    "any state": [],
    "running": ["running"],
    "completed": ["completed"],
    "failed": ["failed"],
    "out_of_memory": ["out_of_memory"],
    "preempted, of which there is none": ["preempted"],
    "failed or timeout": ["failed", "timeout"],
    "every final state": list(FINAL_STATES),
    "running or completed": ["running", "completed"],
}
PLACES: dict[str, dict[str, Any]] = {
    "all": {},
    "large cluster": {"cluster": "fritz"},
    "small cluster": {"cluster": "alex"},
    "a week": {"start_time_from": START + 600_000, "start_time_to": START + 1_204_800},
    "small cluster, a week": {
        "cluster": "alex",
        "start_time_from": START + 600_000,
        "start_time_to": START + 1_204_800,
    },
    "since yesterday": {"start_time_from": LAST - 86_400},
    "after a cursor": {"after_start_time": START + 900_000, "after_id": 30_000},
    "small cluster, after a cursor": {
        "cluster": "alex",
        "after_start_time": START + 900_000,
        "after_id": 30_000,
    },
}


def hours(first: int, number: int) -> dict[str, int]:
    return {"stop_time_from": START + 3600 * first, "stop_time_to": START + 3600 * (first + number)}


FILTERS: dict[str, dict[str, Any]] = {
    "user of few jobs": {"user_name": "abcd7"},
    "user of two jobs": {"user_name": "rare"},
    "user of many jobs": {"user_name": "busy"},
    "user who is gone": {"user_name": "gone"},
    "nobody": {"user_name": "nobody"},
    "project of many jobs": {"project": "busy"},
    "project of long ago": {"project": "gone"},
    "no project": {"project": "none"},
    "job": {"job_id": 4711},
    "array": {"array_job_id": 11},
    "no array": {"array_job_id": 1_000_000},
    "host": {"host": "f11"},
    "host of long ago": {"host": "old"},
    "no host": {"host": "f9999"},
    "partition": {"partition": "main"},
    "partition of long ago": {"partition": "old"},
    "no partition": {"partition": "none"},
    "sub-cluster": {"sub_cluster": "main"},
    "sub-cluster of long ago": {"sub_cluster": "old"},
    "no sub-cluster": {"sub_cluster": "none"},
    "rare tag": {"tag": Tag("a", "rare")},
    "common tag": {"tag": Tag("a", "common")},
    "no tag": {"tag": Tag("a", "none")},
    "two nodes": {"num_nodes_from": 2, "num_nodes_to": 2},
    "large jobs": {"num_nodes_from": 32, "num_nodes_to": 128},
    "larger than there are": {"num_nodes_from": 1000, "num_nodes_to": 2000},
    "stopped before": {"stop_time_from": 1, "stop_time_to": START},
    "stopped within an hour": hours(250, 1),
    "stopped within a week": hours(200, 168),
    "stopped in the future": hours(50_000, 1),
}
# What goes with these: nothing, something common, something rare.
COMPANY: dict[str, tuple[list[str], dict[str, Any]]] = {
    "alone": ([], {}),
    "large cluster, completed": (["completed"], {"cluster": "fritz"}),
    "running": (["running"], {}),
    "small cluster": ([], {"cluster": "alex"}),
    "small cluster, failed": (["failed"], {"cluster": "alex"}),
    "preempted, of which there is none": (["preempted"], {}),
}


@pytest.mark.parametrize("company", COMPANY.values(), ids=COMPANY)
@pytest.mark.parametrize("wanted", FILTERS.values(), ids=FILTERS)
def test_a_filter_reads_little_of_the_table(
    large: Database, wanted: dict[str, Any], company: tuple[list[str], dict[str, Any]]
) -> None:
    states, place = company
    # Some have no job on the small cluster, nor may the planner know: it reads the fewer.
    most = JOBS // 10 if place == {"cluster": "alex"} else MOST_FILTERED
    assert_reads_little(plan(large, states, **place, **wanted), most)


@pytest.mark.parametrize("company", COMPANY.values(), ids=COMPANY)
@pytest.mark.parametrize("host", ["f11", "old", "f9999"])
def test_a_host_is_found_by_its_index_however_long_it_is_looked_for(
    large: Database, host: str, company: tuple[list[str], dict[str, Any]]
) -> None:
    """Where the planner expects some among many names, it would walk until it met some."""
    states, place = company
    names = [f"{host} {number}" for number in range(6000, 7000)]
    found = plan(large, states, **place, host_keys=names)
    assert "jobs_by_host" in {node.get("Index Name") for node in nodes(found)}, found


def test_for_a_host_that_never_ran_a_job_no_job_is_looked_for(
    large: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(job_list._SQL, "list_jobs", "none is to be listed")
    with large.connection() as conn:
        page = job_list.Page(0, 25)
        assert job_list.list_page(conn, JobFilter(host="f9999"), page, job_list.Columns()) == []


def test_a_hosts_latest_jobs_are_read_and_no_more(large: Database) -> None:
    with large.connection() as conn:
        chosen = job_list.filter_params(conn, JobFilter(host="f11"), periods=2)
    parameters = {**chosen, **job_list.list_params(job_list.Page(0, LIMIT), job_list.Columns())}
    found = explained(large, "job_list", "list_jobs", parameters)
    # A job every 30 s, on one of 900 hosts; a period is of three days.
    most = 2 * 2**18 // (30 * 900) + 1
    assert_reads_little(found, most)
    assert "jobs_by_host" in {node.get("Index Name") for node in nodes(found)}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("states", STATES.values(), ids=STATES)
def test_the_first_page_reads_little_of_the_table(
    large: Database, states: list[str], place: dict[str, Any]
) -> None:
    most = MOST_LOOKED_AT
    if "completed" in states or len(states) > 1:
        # Running jobs are read past, of which there are as many however large the table.
        most += RUNNING + 16 * LIMIT
    assert_reads_little(plan(large, states, **place), most)


@pytest.mark.parametrize("states", [["preempted", "out_of_memory"], ["preempted", "stopped"]])
def test_rare_states_together_are_found_by_their_index(large: Database, states: list[str]) -> None:
    found = plan(large, states)
    scanned = [node for node in nodes(found) if node.get("Index Name", "").endswith("state")]
    assert scanned, found
    assert_no_walk(found)


def assert_no_walk(found: dict[str, Any]) -> None:
    assert max(rows(node) for node in nodes(found) if "Scan" in node["Node Type"]) <= 10 * LIMIT


def test_a_deep_page_is_found_in_an_index_alone(large: Database) -> None:
    cases: tuple[dict[str, Any], ...] = ({}, {"cluster": "fritz"})
    for wanted in cases:
        found = plan(large, [], offset=20_000, **wanted)
        [scan] = [node for node in nodes(found) if node.get("Index Name", "").endswith("_time")]
        assert scan["Node Type"] == "Index Only Scan"
        assert rows(scan) == 20_000 + LIMIT, found
        assert scan["Heap Fetches"] == 0


# Jobs of up to 25 hours that ran within a range started within it or 25 hours before.
_DAY = 86_400
_MARGIN = 25 * 3600
RANGES = {
    "an hour, long ago": (START + 5 * _DAY, START + 5 * _DAY + 3600),
    "a day, long ago": (START + 5 * _DAY, START + 6 * _DAY),
    "a day, lately": (LAST - _DAY, LAST),
    "a week": (LAST - 9 * _DAY, LAST - 2 * _DAY),
}


def statistics_plan(database: Database, begin: int, end: int, **filters: Any) -> dict[str, Any]:
    """Count jobs by everything, with a time line, and return the plan."""
    asked = StatisticsQuery(
        jobs=JobFilter(**filters, now=LAST),
        time=Range(begin, end),
        group_by=frozenset(GroupBy),
        sort_by_num_jobs=False,
        limit=100,
        with_timeline=True,
    )
    points = Points(begin, 600, (end - begin) // 600)
    with database.connection() as conn:
        parameters = statistics.statistics_params(conn, asked, points)
    return explained(database, "statistics", "job_statistics", parameters)


@pytest.mark.parametrize("time", RANGES.values(), ids=RANGES)
def test_statistics_read_what_ran_in_the_range_in_indexes(
    large: Database, time: tuple[int, int]
) -> None:
    begin, end = time
    found = statistics_plan(large, begin, end)
    assert "Seq Scan" not in {node["Node Type"] for node in nodes(found)}
    scanned = {node["Index Name"]: node for node in nodes(found) if "Index Name" in node}
    assert scanned.keys() == {"jobs_by_start_time", "jobs_long", "jobs_running"}
    assert rows(scanned["jobs_by_start_time"]) <= (end - begin + _MARGIN) // 30 + 1
    assert rows(scanned["jobs_long"]) == 0
    assert rows(scanned["jobs_running"]) <= RUNNING


def test_statistics_of_one_user_read_little(large: Database) -> None:
    found = statistics_plan(large, LAST - 9 * _DAY, LAST - 2 * _DAY, user_name="abcd7")
    assert_reads_little(found, RUNNING + JOBS // 500)


def test_statistics_take_every_filter_of_the_list() -> None:
    texts = queries.load("job_list")["list_jobs"], queries.load("statistics")["job_statistics"]
    for name in job_list.column_params(JobFilter()):
        assert all(f"%({name})s" in text for text in texts), name


def test_a_walk_through_the_table_would_be_noticed(large: Database) -> None:
    with large.session() as conn:
        row = conn.execute(
            "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) SELECT id FROM jobs "
            "WHERE num_hwthreads = 7 ORDER BY start_time DESC LIMIT 25"
        ).fetchone()
    assert row is not None
    with pytest.raises(AssertionError):
        assert_reads_little(row[0][0]["Plan"])
