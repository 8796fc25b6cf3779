"""What the first page of each list reads: an index, and no more of it the larger the table."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from ccapi.model.job import FINAL_STATES, JobFilter
from ccapi.repository import jobs, queries
from ccapi.repository.database import Database
from tests.client import START

JOBS = 60_000
RUNNING = 300
LIMIT = 26
LAST = START + 30 * JOBS
# Rows that a list may look at for each one that it shows. Most jobs are completed ones of the
# large cluster, so that nothing more common than these is ever passed over.
MOST_LOOKED_AT = 8 * LIMIT


@pytest.fixture(scope="module")
def large(_migrated: Database) -> Iterator[Database]:
    """As many jobs as make the planner think of a large table, in the order of their starts.

    One in 12 ends unusually, one in 2,000 out of memory, none preempted; a tenth belongs to
    the small cluster, which was set up lately.
    """
    with _migrated.session() as conn:
        conn.execute(
            """
            INSERT INTO jobs (job_id, start_time, stop_time, job_state, num_nodes, exclusive,
                              monitoring_status, cluster, sub_cluster, user_name, project,
                              resources)
            SELECT n, %(start)s + 30 * n,
                   CASE WHEN n <= %(finished)s THEN %(start)s + 30 * n + 60 END,
                   CASE WHEN n > %(finished)s THEN 'running'
                        WHEN n %% 2000 = 0 THEN 'out_of_memory'
                        WHEN n %% 24 = 0 THEN 'failed'
                        WHEN n %% 24 = 5 THEN 'timeout'
                        ELSE 'completed' END::job_state,
                   1, 1, CASE WHEN n <= %(finished)s THEN 3 ELSE 1 END,
                   CASE WHEN n %% 10 = 3 THEN 'alex' ELSE 'fritz' END, '',
                   'abcd' || n %% 500, 'abcd' || n %% 90, '[{"hostname":"f0101"}]'
            FROM generate_series(1, %(jobs)s) AS n
            """,
            {"start": START, "jobs": JOBS, "finished": JOBS - RUNNING},
        )
        conn.execute("REINDEX TABLE jobs")
        conn.execute("VACUUM (ANALYZE) jobs")
    yield _migrated
    with _migrated.session() as conn:
        # A deletion would leave other tests a file with much room in it.
        conn.execute("TRUNCATE jobs CASCADE")


def plan(database: Database, states: list[str], **wanted: Any) -> dict[str, Any]:
    """Run the list and return its plan as PostgreSQL tells it."""
    parameters = {
        **jobs._filter_parameters(JobFilter(states=states)),
        "after_start_time": None,
        "after_id": None,
        "offset": 0,
        "limit": LIMIT,
        "with_metadata": False,
        **wanted,
    }
    explain = "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) " + queries.load("jobs")["list_jobs"]
    with database.statement() as conn:
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
            assert rows(node) <= most, text


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
    "a week": {"start_from": START + 600_000, "start_to": START + 1_204_800},
    "small cluster, a week": {
        "cluster": "alex",
        "start_from": START + 600_000,
        "start_to": START + 1_204_800,
    },
    "since yesterday": {"start_from": LAST - 86_400},
    "after a cursor": {"after_start_time": START + 900_000, "after_id": 30_000},
    "small cluster, after a cursor": {
        "cluster": "alex",
        "after_start_time": START + 900_000,
        "after_id": 30_000,
    },
}


FILTERS: dict[str, dict[str, Any]] = {
    "user": {"user_name": "abcd7"},
    "user and cluster": {"user_name": "abcd7", "cluster": "fritz"},
    "project": {"project": "abcd7"},
    "job": {"job_id": 4711},
    "nobody": {"user_name": "nobody"},
    "no project": {"project": "none"},
    "no array": {"array_job_id": 1},
    "no host": {"host": "f9999"},
    "no tag": {"tag_type": "none", "tag_name": "none"},
    "stopped before": {"stop_from": 1, "stop_to": START},
    "stopped within an hour": {"stop_from": START + 900_000, "stop_to": START + 903_600},
}


@pytest.mark.parametrize("wanted", FILTERS.values(), ids=FILTERS)
def test_a_filter_reads_little_of_the_table(large: Database, wanted: dict[str, Any]) -> None:
    assert_reads_little(plan(large, [], **wanted))


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
    for wanted in ({}, {"cluster": "fritz"}):
        found = plan(large, [], offset=20_000, **wanted)
        kinds = {node["Node Type"]: node for node in nodes(found)}
        assert rows(kinds["Index Only Scan"]) == 20_000 + LIMIT, found
        assert kinds["Index Only Scan"]["Heap Fetches"] == 0


def test_a_walk_through_the_table_would_be_noticed(large: Database) -> None:
    with large.session() as conn:
        row = conn.execute(
            "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) SELECT id FROM jobs "
            "WHERE partition = 'none' ORDER BY start_time DESC LIMIT 25"
        ).fetchone()
    assert row is not None
    with pytest.raises(AssertionError):
        assert_reads_little(row[0][0]["Plan"])
