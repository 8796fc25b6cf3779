import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ccapi.db import queries
from ccapi.db.pool import Connection, Database
from ccapi.model.job import FINAL_STATES, JobFilter, JobState, ListPosition, NewJob, Range, Tag
from ccapi.model.rules import MAX_INTEGER
from ccapi.repository import bulk_insert, job_list
from ccapi.repository.job_filter import own_conditions
from tests.client import START

PACKAGE = Path(queries.__file__).parent.parent
FILES = sorted((queries.sql_directory() / "queries").glob("*.sql"))
SQL = re.compile(
    r"\b(SELECT\s|INSERT\s+INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM|(CREATE|DROP|ALTER|LOCK)\s+[A-Z]+\s"
    r"|COPY\s|WHERE\s|ORDER\s+BY|GROUP\s+BY|LIMIT\s|VALUES\s*\(|SET\s+LOCAL)"
)
JOBS = 8_000


def string_literals(path: Path) -> Iterator[str]:
    """Yield a module's string literals, without docstrings."""
    tree = ast.parse(path.read_text("utf-8"))
    nodes_with_docstring = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, nodes_with_docstring)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in docstrings:
            yield from [node.value] if isinstance(node.value, str) else []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_query_selects_a_star(file: Path) -> None:
    """A newer schema may have one more column, beside the running version."""
    for query in queries.load(file.stem).values():
        assert not re.search(r"\w\.\*", query), query


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_query_has_one_caller(file: Path) -> None:
    names = re.findall(r"^-- name: (\w+)", file.read_text("utf-8"), re.MULTILINE)
    modules = {"session": "db/pool", "migrations": "db/migrations", "sites": "db/sites"}
    module = PACKAGE / f"{modules.get(file.stem, f'repository/{file.stem}')}.py"
    uses = Counter(text for text in string_literals(module) if text in names)
    assert uses == Counter(names)


def test_every_query_begins_with_a_comment_that_names_it() -> None:
    for file in FILES:
        for name, sql in queries.load(file.stem).items():
            assert sql.startswith(f"/* ccapi {name} */ ")


def test_sql_is_not_written_in_python() -> None:
    """Except in the embedded server, which has two statements of its own."""
    modules = [path for path in PACKAGE.rglob("*.py") if path.parent.name != "embedded"]
    matches = [
        (path.name, text) for path in modules for text in string_literals(path) if SQL.search(text)
    ]
    assert len(modules) > 30
    assert matches == []


def test_sql_in_python_is_detected(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text('def f(t, n):\n  """SELECT is fine here."""\n  f"SELECT * FROM {t}"\n')
    assert [text for text in string_literals(module) if SQL.search(text)] == ["SELECT * FROM "]


@pytest.fixture(scope="module")
def loaded(_migrated: Database) -> Iterator[Database]:
    """A database with 8,000 jobs, nearly all finished, and 3,000 tokens."""
    with _migrated.session() as conn, conn.transaction():
        bulk_insert.load(conn, [make_job(number) for number in range(1, JOBS + 1)])
        # Other tests leave indexes that are too large for such a small table.
        conn.execute("REINDEX TABLE jobs")
        # The archive queue after an outage.
        conn.execute("INSERT INTO archive_queue SELECT id FROM jobs WHERE job_id % 2 = 0")
        conn.execute("ANALYZE archive_queue")
        bulk_insert.analyze(conn)
        conn.execute("INSERT INTO tokens (name, role, digest) "
                     "SELECT 'token ' || n, 'reader', sha256(n::text::bytea) "
                     "FROM generate_series(1, 3000) AS n")  # fmt: skip
        conn.execute("ANALYZE tokens")
    yield _migrated
    with _migrated.session() as conn:
        for table in ("jobs", "archive_queue", "hosts", "tags", "tokens"):
            conn.execute(f"DELETE FROM {table}".encode())


def make_job(number: int) -> NewJob:
    start = START + 60 * number
    job = NewJob(
        job_id=number,
        user_name=f"abcd{number % 50:03}h",
        cluster="alex" if number % 50 == 0 else "fritz",
        start_time=start,
        resources=[{"hostname": f"f{number % 900:04}"}],
        monitoring_status=1 if number > JOBS - 40 else 3,
        tags=[Tag("Debug", f"test {number % 7}")] if number % 5 == 0 else [],
    )
    if number > JOBS - 40:
        return job
    return replace(job, job_state=FINAL_STATES[number % 7], stop_time=start + 3600)


ONE_DAY = Range(START + 90_000, START + 176_400)
RUNNING = [JobState.RUNNING]
# The parameters of a reconciliation: the batch system reports many runs and many ends.
SNAPSHOT = {
    "cluster": "fritz",
    "as_of": 2 * START,
    "started_before": 2 * START,
    "window": 60,
    "job_state": "stopped",
    **{name: list(range(1, 5000)) for name in ("job_ids", "ended_job_ids")},
    **{name: 4999 * [START] for name in ("start_times", "ended_start_times", "ended_stop_times")},
    "ended_states": 4999 * ["failed"],
}


def plan(conn: Connection, query: str, parameters: dict[str, Any]) -> str:
    rows = conn.execute(f"EXPLAIN {query}".encode(), parameters, prepare=False)
    return "\n".join(line for (line,) in rows)


@pytest.mark.parametrize(
    ("filters", "page", "index"),
    [
        ({}, {}, "jobs_by_start_time"),
        ({}, {"limit": 250, "after": ListPosition(START + 240_000, 4000)}, "jobs_by_start"),
        ({"state": RUNNING}, {}, "jobs_running"),
        ({"state": RUNNING}, {"limit": 9_999_999}, "jobs_running"),
        ({"state": RUNNING}, {"limit": 250}, "jobs_running"),
        ({"state": RUNNING, "cluster": ["fritz"]}, {}, "jobs_"),
        ({"state": ["completed"]}, {}, "jobs_by_start_time"),
        ({"state": ["failed", "timeout"]}, {}, "jobs_by_"),
        ({"state": list(JobState)}, {}, "jobs_by_start_time"),
        ({"cluster": ["fritz"]}, {}, "jobs_by_"),
        ({"cluster": ["alex"]}, {}, "jobs_by_cluster_start_time"),
        ({"cluster": ["alex"], "state": ["completed"]}, {}, "jobs_by_"),
        ({"start_time": ONE_DAY}, {}, "jobs_by_start_time"),
        ({"start_time": ONE_DAY}, {"limit": 9_999_999}, "jobs_by_start_time"),
        ({"cluster": ["alex"], "start_time": ONE_DAY}, {}, "jobs_by_cluster_start_time"),
        ({"state": ["completed"], "start_time": ONE_DAY}, {}, "jobs_by_start_time"),
        ({"start_time": Range(START + 60 * JOBS, MAX_INTEGER)}, {}, "jobs_"),
        ({}, {"offset": 200}, "jobs_by_start_time"),
    ],
    ids=["no filter", "next batch", "running", "all running", "running with metadata",
         "running on a cluster", "completed", "two states", "all states", "large cluster",
         "small cluster", "cluster and state", "one day", "whole day", "cluster and day",
         "state and day", "the latest", "a later page"],
)  # fmt: skip
def test_list_uses_an_index(
    loaded: Database, filters: dict[str, Any], page: dict[str, Any], index: str
) -> None:
    conditions = own_conditions(JobFilter(**filters))
    part = job_list.Page(**{"offset": 0, "limit": 25, **page})
    query, params, _ = job_list.list_statement(conditions, part, job_list.Columns(meta_data=True))
    with loaded.connection() as conn:
        text = plan(conn, query, params)
    assert re.search(
        rf"Index (Only )?Scan( Backward)? (using|on) {index}|Bitmap.* {index}", text
    ), text
    # The planner may join the details of a large page ("jobs j") in any way.
    assert not re.search(r"Seq Scan on jobs(?! j)", text), text


def test_total_of_a_user_uses_an_index(loaded: Database) -> None:
    conditions = own_conditions(JobFilter(user_name=["abcd007h"]))
    query = queries.fill(queries.load("job_list")["count_jobs"], conditions=conditions.sql)
    with loaded.connection() as conn:
        text = plan(conn, query, conditions.params)
    assert not re.search(r"Seq Scan on jobs", text), text


@pytest.mark.parametrize(
    ("file", "name", "parameters"),
    [
        ("jobs", "find_jobs", {"job_id": 7, "cluster": None, "start_time": None, "limit": 11}),
        ("jobs", "find_jobs", {"job_id": 7, "cluster": "alex", "start_time": 5, "limit": 11}),
        ("jobs", "get_run", {"id": 7}),
        ("job_filter", "find_tags", {"types": ["Debug"], "names": ["test 1"], "many": 1000}),
        ("jobs", "get_job", {"id": 7}),
        ("jobs", "stop_job", {"id": 7, "job_state": "completed", "stop_time": 2 * START}),
        ("jobs", "lock_job", {"id": 7}),
        ("jobs", "mark_job_changed", {"id": 7}),
        ("jobs", "dequeue_job", {"id": 7}),
        ("jobs", "mark_archiving_failed", {"id": 7}),
        ("jobs", "list_archive_queue", {"after_id": 0, "limit": 500}),
        ("jobs", "list_finished_jobs", {"after_id": 5, "limit": 5}),
        ("deletion", "delete_job", {"id": 7}),
        ("deletion", "delete_jobs_before", {"since": 0, "before": START + 6000, "limit": 5}),
        ("reconciliation", "missing_runs", {**SNAPSHOT, "job_ids": [7], "start_times": [START]}),
        ("reconciliation", "stale_runs", SNAPSHOT),
        (
            "reconciliation",
            "stop_runs",
            {
                "ids": [7, 8],
                "stop_times": [2 * START, 2 * START],
                "job_states": ["failed", "failed"],
                "stopped_by": "ops",
            },
        ),
        (
            "edits",
            "correct_end",
            {"id": 7, "job_state": "failed", "stop_time": None, "corrected_by": "ops"},
        ),
        ("edits", "list_corrections", {"id": 7}),
        ("edits", "replace_meta_data", {"id": 7, "meta_data": None}),
        (
            "metrics",
            "list_overdue_jobs",
            {"now": 2 * START, "grace": 600, "cluster": None, "limit": 20},
        ),
        ("tokens", "find_token", {"digest": b"x", "ttl": 1}),
        ("tokens", "valid_tokens", {"name": "token 7"}),
        ("tokens", "record_use", {"ids": [7]}),
        ("tokens", "expire_token", {"id": 7, "lifetime": "1 day"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_lookup_of_a_job_or_token_uses_an_index(
    loaded: Database, file: str, name: str, parameters: dict[str, Any]
) -> None:
    limits = {
        "scope_users": None,
        "scope_projects": None,
        "scope_clusters": None,
        "omit_tagged": False,
        "sees_metadata": True,
    }
    with loaded.connection() as conn:
        text = plan(conn, queries.load(file)[name], {**limits, **parameters})
    assert not re.search(r"Seq Scan on (jobs|tokens)", text), text
