"""Lists and statistics read few rows, by index, however large the table is."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from psycopg import sql

from ccapi.db.pool import Database
from ccapi.model.job import FINAL_STATES, JobFilter, JobState, ListPosition, Range, Tag
from ccapi.model.rules import MAX_INTEGER
from ccapi.model.statistics import PERIODS, Days, GroupBy, Points, StatisticsQuery
from ccapi.repository import job_filter, job_list, statistics
from tests.client import START

pytestmark = pytest.mark.slow

JOBS = 60_000
RUNNING = 300
LIMIT = 26
LAST = START + 30 * JOBS
# A list may read 10 rows for each row that it returns: one job in 10 is of the small cluster.
MAX_ROWS = 10 * LIMIT
# The same for two filters, and for a range of stop times, which BRIN finds by whole pages.
MAX_FILTERED_ROWS = 80 * LIMIT
# A bitmap index scan reads this many entries in the time of one row.
_INDEX_ENTRIES_PER_ROW = 10
_FILL = """
INSERT INTO jobs (job_id, start_time, stop_time, job_state, num_nodes, exclusive,
                  monitoring_status, cluster, sub_cluster, partition, array_job_id,
                  user_name, project, meta_data, resources)
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
       CASE WHEN n %% 4 = 0 THEN 'busy' WHEN n %% 3 = 0 AND n < 30000 THEN 'former'
            WHEN n IN (7, 19) THEN 'rare' ELSE 'abcd' || n %% 500 END,
       CASE WHEN n %% 4 = 0 THEN 'busy' WHEN n %% 3 = 0 AND n < 30000 THEN 'former'
            WHEN n IN (7, 19) THEN 'rare' ELSE 'abcd' || n %% 90 END,
       json_build_object('jobName', CASE WHEN n %% 2000 = 7 THEN 'rotor' ELSE 'relax ' || n END),
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
    """A database with so many jobs that the planner prefers indexes, in the order of their starts.

    One job in 12 fails or times out, one in 2,000 runs out of memory, none is preempted. A
    tenth runs on the small cluster. A quarter belongs to the busy user and project, a third of
    the first half to a former user and project. A few old jobs have a host, a partition and a
    sub-cluster that are no longer in use, and many nodes.
    """
    with _migrated.session() as conn:
        conn.execute(_FILL, {"start": START, "jobs": JOBS, "finished": JOBS - RUNNING})
        conn.execute("SELECT register_hosts(array_agg('f' || n)) FROM generate_series(0, 899) AS n")
        conn.execute("SELECT register_hosts(ARRAY['old'])")
        conn.execute("INSERT INTO tags (type, name) VALUES ('a', 'rare'), ('a', 'common')")
        conn.execute(_TAG)
        # The INSERT also fills space that other tests left, so rows may be out of order on disk.
        conn.execute("CLUSTER jobs USING jobs_by_start_time")
        conn.execute("ALTER TABLE jobs SET WITHOUT CLUSTER")
        conn.execute("VACUUM (ANALYZE) jobs")
        conn.execute("VACUUM (ANALYZE) job_tags")
    yield _migrated
    with _migrated.session() as conn:
        # A DELETE would leave other tests a large, empty file.
        conn.execute("TRUNCATE jobs CASCADE")
        conn.execute("DELETE FROM hosts")
        conn.execute("DELETE FROM tags")


def list_plan(
    database: Database,
    after: ListPosition | None = None,
    *,
    offset: int = 0,
    host_keys: list[str] | None = None,
    **filters: Any,
) -> dict[str, Any]:
    """Run the list query and return PostgreSQL's plan; `host_keys` replaces those of a host."""
    page = job_list.Page(offset, LIMIT, after)
    with database.connection() as conn:
        conditions = job_filter.conditions_of(conn, JobFilter(**filters))
    if host_keys is not None:
        conditions.params["host_keys"] = host_keys
    query, params, _ = job_list.list_statement(conditions, page, job_list.Columns())
    return explain(database, query, params)


def explain(database: Database, query: str, parameters: dict[str, Any]) -> dict[str, Any]:
    statement = f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {query}"
    with database.connection() as conn:
        row = conn.execute(statement.encode(), parameters, prepare=False).fetchone()
    assert row is not None
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


def rows(node: dict[str, Any]) -> int:
    """Return how many rows a node returned or removed, in all its loops."""
    removed = sum(value for name, value in node.items() if name.startswith("Rows Removed"))
    return int(node["Actual Loops"] * (node["Actual Rows"] + removed))


def assert_reads_few_rows(plan: dict[str, Any], max_rows: int = MAX_ROWS) -> None:
    """Check that no node scans the whole table, and that none reads or sorts too many rows."""
    text = json.dumps(plan, indent=1)
    for node in nodes(plan):
        assert not (node["Node Type"] == "Seq Scan" and node["Relation Name"] == "jobs"), text
        if node["Node Type"] == "Sort":
            assert rows(node["Plans"][0]) <= max_rows, text
        if "Scan" in node["Node Type"]:
            entries = _INDEX_ENTRIES_PER_ROW if node["Node Type"] == "Bitmap Index Scan" else 1
            assert rows(node) <= max_rows * entries, text


STATES: dict[str, dict[str, Any]] = {
    "any state": {},
    "running": {"state": ["running"]},
    "completed": {"state": ["completed"]},
    "failed": {"state": ["failed"]},
    "out_of_memory": {"state": ["out_of_memory"]},
    "preempted, without jobs": {"state": ["preempted"]},
    "failed or timeout": {"state": ["failed", "timeout"]},
    "every final state": {"state": FINAL_STATES},
    "running or completed": {"state": ["running", "completed"]},
    "neither completed nor running": {"not_state": ["completed", "running"]},
}
WEEK = {"start_time": Range(START + 600_000, START + 1_204_800)}
AFTER = {"after": ListPosition(START + 900_000, 30_000)}
SCOPES: dict[str, dict[str, Any]] = {
    "all": {},
    "large cluster": {"cluster": ["fritz"]},
    "small cluster": {"cluster": ["alex"]},
    "a week": WEEK,
    "small cluster, a week": {"cluster": ["alex"], **WEEK},
    "since yesterday": {"start_time": Range(LAST - 86_400, MAX_INTEGER)},
    "after a cursor": AFTER,
    "small cluster, after a cursor": {"cluster": ["alex"], **AFTER},
}


def stopped_in_hours(first: int, number: int) -> dict[str, Any]:
    return {"stop_time": Range(START + 3600 * first, START + 3600 * (first + number))}


FILTERS: dict[str, dict[str, Any]] = {
    "user of few jobs": {"user_name": ["abcd7"]},
    "user of two jobs": {"user_name": ["rare"]},
    "user of many jobs": {"user_name": ["busy"]},
    "former user": {"user_name": ["former"]},
    "unknown user": {"user_name": ["nobody"]},
    "project of many jobs": {"project": ["busy"]},
    "former project": {"project": ["former"]},
    "unknown project": {"project": ["none"]},
    "job": {"job_id": [4711]},
    "two jobs": {"job_id": [4711, 4712]},
    "array": {"array_job_id": [11]},
    "unknown array": {"array_job_id": [1_000_000]},
    "host": {"host": ["f11"]},
    "two hosts": {"host": ["f11", "f12"]},
    "former host": {"host": ["old"]},
    "unknown host": {"host": ["f9999"]},
    "partition": {"partition": ["main"]},
    "former partition": {"partition": ["old"]},
    "unknown partition": {"partition": ["none"]},
    "sub-cluster": {"sub_cluster": ["main"]},
    "former sub-cluster": {"sub_cluster": ["old"]},
    "unknown sub-cluster": {"sub_cluster": ["none"]},
    "rare tag": {"tag": [Tag("a", "rare")]},
    "common tag": {"tag": [Tag("a", "common")]},
    "unknown tag": {"tag": [Tag("a", "none")]},
    "two nodes": {"num_nodes": Range(2, 2)},
    "large jobs": {"num_nodes": Range(32, 128)},
    "more nodes than any job": {"num_nodes": Range(1000, MAX_INTEGER)},
    "stopped before": {"stop_time": Range(1, START)},
    "stopped within an hour": stopped_in_hours(250, 1),
    "stopped within a week": stopped_in_hours(200, 168),
    "stopped in the future": stopped_in_hours(50_000, 1),
    "rare name": {"name": ["rotor"]},
    "common name": {"name": ["relax"]},
    "unknown name": {"name": ["nothing"]},
}
# What each filter is combined with: nothing, something common, something rare.
OTHER_FILTERS: dict[str, dict[str, Any]] = {
    "alone": {},
    "large cluster, completed": {"state": ["completed"], "cluster": ["fritz"]},
    "running": {"state": ["running"]},
    "small cluster": {"cluster": ["alex"]},
    "small cluster, failed": {"cluster": ["alex"], "state": ["failed"]},
    "preempted, without jobs": {"state": ["preempted"]},
}


@pytest.mark.parametrize("other", OTHER_FILTERS.values(), ids=OTHER_FILTERS)
@pytest.mark.parametrize("params", FILTERS.values(), ids=FILTERS)
def test_filter_reads_few_rows(
    large: Database, params: dict[str, Any], other: dict[str, Any]
) -> None:
    # A filter may match no job of the small cluster; PostgreSQL may then read all jobs of it.
    max_rows = JOBS // 10 if other == {"cluster": ["alex"]} else MAX_FILTERED_ROWS
    assert_reads_few_rows(list_plan(large, **other, **params), max_rows)


@pytest.mark.parametrize("other", OTHER_FILTERS.values(), ids=OTHER_FILTERS)
@pytest.mark.parametrize("host", ["f11", "old", "f9999"])
def test_host_filter_with_many_keys_uses_the_host_index(
    large: Database, host: str, other: dict[str, Any]
) -> None:
    """The planner must not expect to meet a job of the host soon, and scan until it does."""
    keys = [f"{host} {number}" for number in range(6000, 7000)]
    plan = list_plan(large, **other, host=[host], host_keys=keys)
    assert "jobs_by_host" in {node.get("Index Name") for node in nodes(plan)}, plan


def test_filter_by_unknown_host_runs_no_list_query(
    large: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(job_list._SQL, "list_jobs", "not SQL: must not be executed")
    with large.connection() as conn:
        page = job_list.Page(0, 25)
        assert job_list.list_page(conn, JobFilter(host=["f9999"]), page, job_list.Columns()) == []


def test_host_filter_reads_only_the_latest_periods(large: Database) -> None:
    with large.connection() as conn:
        conditions = job_filter.conditions_of(conn, JobFilter(host=["f11"]), max_periods=2)
    page = job_list.Page(0, LIMIT)
    query, params, _ = job_list.list_statement(conditions, page, job_list.Columns())
    plan = explain(large, query, params)
    # A job starts every 30 s, each on the next of 900 hosts; a period is 3 days (2**18 s).
    max_rows = 2 * 2**18 // (30 * 900) + 1
    assert_reads_few_rows(plan, max_rows)
    assert "jobs_by_host" in {node.get("Index Name") for node in nodes(plan)}


@pytest.mark.parametrize("scope", SCOPES.values(), ids=SCOPES)
@pytest.mark.parametrize("states", STATES.values(), ids=STATES)
def test_first_page_reads_few_rows(
    large: Database, states: dict[str, Any], scope: dict[str, Any]
) -> None:
    max_rows = MAX_ROWS
    several = states.get("state", ["completed"] if "not_state" in states else [])
    if "completed" in several or len(several) > 1:
        # The query skips running jobs, whose number does not grow with the table.
        max_rows += RUNNING + 16 * LIMIT
    assert_reads_few_rows(list_plan(large, **states, **scope), max_rows)


ONE_PLAN: dict[str, dict[str, Any]] = {
    **{f"state {state}": {"state": [state]} for state in JobState},
    "no filter": {},
    "unknown cluster": {"cluster": ["none"]},
    **{f"unknown cluster, {state}": {"cluster": ["none"], "state": [state]} for state in JobState},
    **{name: FILTERS[name] for name in FILTERS if "user" in name or "project" in name},
}


@pytest.mark.parametrize("scope", SCOPES.values(), ids=SCOPES)
@pytest.mark.parametrize("params", ONE_PLAN.values(), ids=ONE_PLAN)
def test_prepared_list_reads_few_rows_with_any_values(
    large: Database, params: dict[str, Any], scope: dict[str, Any]
) -> None:
    after = {**scope}.pop("after", None)
    filters = {name: value for name, value in {**params, **scope}.items() if name != "after"}
    with large.connection() as conn:
        conditions = job_filter.conditions_of(conn, JobFilter(**filters))
    page = job_list.Page(0, LIMIT, after)
    query, values, can_prepare = job_list.list_statement(conditions, page, job_list.Columns())
    if can_prepare:
        assert_reads_few_rows(generic_plan(large, query, values), MAX_ROWS + RUNNING + 16 * LIMIT)
    else:
        assert len(filters) + bool(after) > 1


def generic_plan(database: Database, query: str, values: dict[str, Any]) -> dict[str, Any]:
    """Run a list as PostgreSQL runs it once it is prepared, and return the plan."""
    names = [*dict.fromkeys(re.findall(r"%\((\w+)\)s", query))]
    statement = re.sub(r"%\((\w+)\)s", lambda match: f"${names.index(match[1]) + 1}", query)
    with database.session() as conn:
        conn.execute("SET plan_cache_mode = force_generic_plan")
        conn.execute(f"PREPARE list AS {statement}".encode())
        literals = ", ".join(sql.Literal(values[name]).as_string(conn) for name in names)
        explain = f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) EXECUTE list ({literals})"
        row = conn.execute(explain.encode()).fetchone()
    assert row is not None
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


@pytest.mark.parametrize("states", [["preempted", "out_of_memory"], ["preempted", "stopped"]])
def test_two_rare_states_use_the_state_index(large: Database, states: list[str]) -> None:
    plan = list_plan(large, state=states)
    assert any(node.get("Index Name", "").endswith("state") for node in nodes(plan)), plan
    assert max(rows(node) for node in nodes(plan) if "Scan" in node["Node Type"]) <= 10 * LIMIT


def test_deep_page_is_an_index_only_scan(large: Database) -> None:
    cases: tuple[dict[str, Any], ...] = ({}, {"cluster": ["fritz"]})
    for params in cases:
        plan = list_plan(large, offset=20_000, **params)
        [scan] = [node for node in nodes(plan) if node.get("Index Name", "").endswith("_time")]
        assert scan["Node Type"] == "Index Only Scan"
        assert rows(scan) == 20_000 + LIMIT, plan
        assert scan["Heap Fetches"] == 0


# A job of up to 25 hours that ran in a range started in it or at most 25 hours before it.
_DAY = 86_400
_MARGIN = 25 * 3600
RANGES = {
    "an hour, long ago": (START + 5 * _DAY, START + 5 * _DAY + 3600),
    "a day, long ago": (START + 5 * _DAY, START + 6 * _DAY),
    "the latest day": (LAST - _DAY, LAST),
    "a week": (LAST - 9 * _DAY, LAST - 2 * _DAY),
}


def statistics_plan(
    database: Database, begin: int, end: int, days: Days | None = None, **filters: Any
) -> dict[str, Any]:
    """Run the statistics query with every grouping and a timeline, and return its plan."""
    query = StatisticsQuery(
        jobs=JobFilter(**filters, now=LAST),
        time=Range(begin, end),
        group_by=frozenset(set(GroupBy) - {GroupBy.HOST} - PERIODS),
        limit=100,
        with_timeline=True,
    )
    points = Points(begin, 600, (end - begin) // 600)
    with database.connection() as conn:
        statement = statistics.statistics_statement(conn, query, points, days)
    return explain(database, *statement)


@pytest.mark.parametrize("time", RANGES.values(), ids=RANGES)
def test_statistics_read_the_jobs_of_the_range_by_index(
    large: Database, time: tuple[int, int]
) -> None:
    begin, end = time
    plan = statistics_plan(large, begin, end)
    assert "Seq Scan" not in {node["Node Type"] for node in nodes(plan)}
    scans = {node["Index Name"]: node for node in nodes(plan) if "Index Name" in node}
    assert scans.keys() == {"jobs_by_start_time", "jobs_long", "jobs_running"}
    assert rows(scans["jobs_by_start_time"]) <= (end - begin + _MARGIN) // 30 + 1
    assert rows(scans["jobs_long"]) == 0
    assert rows(scans["jobs_running"]) <= RUNNING


def test_statistics_with_rollups_read_the_edges_of_the_range(large: Database) -> None:
    begin, end = RANGES["a week"]
    days = Days(begin // _DAY + 1, (end - _MARGIN) // _DAY)
    plan = statistics_plan(large, begin, end, days)
    by_start = [node for node in nodes(plan) if node.get("Index Name") == "jobs_by_start_time"]
    edges = (_MARGIN + days.first * _DAY - begin) + (end - days.end * _DAY)
    assert len(by_start) == 2
    assert sum(map(rows, by_start)) <= edges // 30 + 2
    assert "Seq Scan" not in {node["Node Type"] for node in nodes(plan)}


def test_statistics_of_one_user_read_few_rows(large: Database) -> None:
    plan = statistics_plan(large, LAST - 9 * _DAY, LAST - 2 * _DAY, user_name=["abcd7"])
    assert_reads_few_rows(plan, RUNNING + JOBS // 500)


def test_sequential_scan_is_detected(large: Database) -> None:
    with large.session() as conn:
        row = conn.execute(
            "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) SELECT id FROM jobs "
            "WHERE num_hwthreads = 7 ORDER BY start_time DESC LIMIT 25"
        ).fetchone()
    assert row is not None
    with pytest.raises(AssertionError):
        assert_reads_few_rows(row[0][0]["Plan"])
