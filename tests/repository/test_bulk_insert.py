from dataclasses import replace
from itertools import count
from typing import Any

import orjson
import psycopg
import pytest

from ccapi.db.pool import Database
from ccapi.model.job import Job, JobFilter, JobState, NewJob, Tag
from ccapi.repository import bulk_insert, jobs
from ccapi.repository.job_list import Columns, Page, list_page

START = 1_700_000_000
STRANGE = "\\ \t \n \r \\N \\. \u00e9 \u2028 ' \" {}"


def new_job(job_id: int, **fields: Any) -> NewJob:
    required = {
        "user_name": "abcd100h",
        "cluster": "demo",
        "start_time": START,
        "resources": [{"hostname": "f0101"}],
    }
    return NewJob(**{**required, **fields}, job_id=job_id)


def finished(job_id: int, **fields: Any) -> NewJob:
    return replace(new_job(job_id, **fields), job_state=JobState.COMPLETED, stop_time=START + 60)


def load(database: Database, *recorded: NewJob) -> list[int]:
    with database.transaction() as conn:
        return bulk_insert.load(conn, recorded)


def read(database: Database, id_: int) -> Job:
    with database.connection() as conn:
        job = jobs.get(conn, id_)
    assert job
    return job


def tags_of(job: Job) -> list[tuple[str, str]]:
    return [(tag["type"], tag["name"]) for tag in orjson.loads(job.tags)]


def test_the_hosts_of_loaded_jobs_are_known(database: Database) -> None:
    nodes = [{"hostname": name} for name in ("a", "b")]
    load(database, finished(1, resources=nodes), finished(2, resources=nodes[1:]))
    with database.connection() as conn:
        assert len(list_page(conn, JobFilter(host="b"), Page(0, 9), Columns())) == 2
        assert conn.execute("SELECT name FROM hosts").fetchall() == [("a",), ("b",)]


def test_a_loaded_job_is_like_one_that_was_started_and_stopped(database: Database) -> None:
    job = new_job(
        4711,
        user_name=STRANGE,
        project=STRANGE,
        sub_cluster="main",
        partition=STRANGE,
        array_job_id=4700,
        num_hwthreads=72,
        num_acc=4,
        exclusive=0,
        smt=2,
        walltime=3600,
        resources=[{"hostname": "f0101", "hwthreads": [0, 1]}, {"hostname": "f0102"}],
        meta_data={"jobScript": STRANGE},
        statistics={"mem_bw": {"unit": "GB/s", "avg": 1.5, "min": 0, "max": 2}},
        tags=[Tag("b", STRANGE), Tag("a", "one"), Tag("a", "one")],
    )
    with database.transaction() as conn:
        started = jobs.insert(conn, job, 0)
        jobs.stop(conn, started, "failed", START + 60)
    job.cluster = "other"
    [loaded] = load(database, replace(job, job_state=JobState.FAILED, stop_time=START + 60))
    expected = read(database, started)
    expected.id, expected.cluster = loaded, "other"
    assert read(database, loaded) == expected
    assert tags_of(expected) == [("a", "one"), ("b", STRANGE)]


def test_what_is_not_given_stays_so(database: Database) -> None:
    [id_] = load(database, new_job(1))
    job = read(database, id_)
    assert job.is_running
    assert (job.stop_time, job.partition, job.walltime) == (None, None, None)
    assert (job.meta_data, job.statistics, job.tags) == (None, None, "[]")


def test_ids_are_in_the_order_of_the_jobs_and_go_on_afterwards(database: Database) -> None:
    with database.transaction() as conn:
        before = jobs.insert(conn, new_job(1), 0)
    ids = load(database, *(finished(job_id) for job_id in range(2, 12)))
    with database.transaction() as conn:
        after = jobs.insert(conn, new_job(12), 0)
    assert [before, *ids, after] == list(range(before, before + 12))
    assert [read(database, id_).job_id for id_ in ids] == list(range(2, 12))


def test_tags_are_shared_with_those_there(database: Database) -> None:
    with database.transaction() as conn:
        first = jobs.insert(conn, new_job(1, tags=[Tag("a", "one")]), 0)
    ids = load(
        database,
        finished(2, tags=[Tag("a", "one"), Tag("a", "two")]),
        finished(3),
        finished(4, tags=[Tag("a", "two")]),
    )
    names = [tags_of(read(database, id_)) for id_ in (first, *ids)]
    one, two = ("a", "one"), ("a", "two")
    assert names == [[one], [one, two], [], [two]]
    with database.connection() as conn:
        assert conn.execute("SELECT count(*) FROM tags").fetchone() == (2,)


def test_nothing_is_loaded_of_nothing(database: Database) -> None:
    assert load(database) == []


def test_a_run_that_is_there_already_keeps_all_out(database: Database) -> None:
    load(database, finished(7))
    with pytest.raises(psycopg.errors.UniqueViolation):
        load(database, finished(8), finished(7))
    with database.connection() as conn:
        assert bulk_insert.count_cluster_jobs(conn, "demo") == (1, 7)


def test_the_caller_decides_whether_it_stays(database: Database) -> None:
    with database.transaction() as conn, conn.transaction(force_rollback=True):
        bulk_insert.load(conn, [finished(1, tags=[Tag("a", "one")])])
    with database.connection() as conn:
        assert bulk_insert.count_cluster_jobs(conn, "demo") == (0, 0)


def test_a_cluster_counts_its_own_jobs(database: Database) -> None:
    load(database, finished(3), finished(9), finished(100, cluster="other"))
    with database.connection() as conn:
        assert bulk_insert.count_cluster_jobs(conn, "demo") == (2, 9)


def test_the_planner_learns_what_was_loaded(database: Database) -> None:
    numbers = count(1)
    load(database, *(finished(next(numbers)) for _ in range(500)))
    with database.connection() as conn:
        bulk_insert.analyze(conn)
        row = conn.execute("SELECT reltuples FROM pg_class WHERE relname = 'jobs'").fetchone()
    assert row
    assert row[0] >= 500
