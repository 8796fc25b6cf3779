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
SPECIAL_CHARACTERS = "\\ \t \n \r \\N \\. \u00e9 \u2028 ' \" {}"


def new_job(job_id: int, **fields: Any) -> NewJob:
    required = {
        "user_name": "abcd100h",
        "cluster": "demo",
        "start_time": START,
        "resources": [{"hostname": "f0101"}],
    }
    return NewJob(**{**required, **fields}, job_id=job_id)


def finished_job(job_id: int, **fields: Any) -> NewJob:
    return replace(new_job(job_id, **fields), job_state=JobState.COMPLETED, stop_time=START + 60)


def load(database: Database, *new_jobs: NewJob) -> list[int]:
    with database.transaction() as conn:
        return bulk_insert.load(conn, new_jobs)


def read_job(database: Database, id_: int) -> Job:
    with database.connection() as conn:
        job = jobs.get(conn, id_)
    assert job
    return job


def tag_pairs(job: Job) -> list[tuple[str, str]]:
    return [(tag["type"], tag["name"]) for tag in orjson.loads(job.tags)]


def test_hosts_of_loaded_jobs_are_registered(database: Database) -> None:
    nodes = [{"hostname": name} for name in ("a", "b")]
    load(database, finished_job(1, resources=nodes), finished_job(2, resources=nodes[1:]))
    with database.connection() as conn:
        assert len(list_page(conn, JobFilter(host=["b"]), Page(0, 9), Columns())) == 2
        assert conn.execute("SELECT name FROM hosts").fetchall() == [("a",), ("b",)]


def test_loaded_job_equals_a_started_and_stopped_one(database: Database) -> None:
    job = new_job(
        4711,
        user_name=SPECIAL_CHARACTERS,
        project=SPECIAL_CHARACTERS,
        sub_cluster="main",
        partition=SPECIAL_CHARACTERS,
        array_job_id=4700,
        num_hwthreads=72,
        num_acc=4,
        exclusive=0,
        smt=2,
        walltime=3600,
        submit_time=START - 60,
        requested_memory=128_000,
        energy=0.1,
        resources=[{"hostname": "f0101", "hwthreads": [0, 1]}, {"hostname": "f0102"}],
        meta_data={"jobScript": SPECIAL_CHARACTERS},
        statistics={"mem_bw": {"unit": "GB/s", "avg": 1.5, "min": 0, "max": 2}},
        footprint={"mem_bw_avg": 1.5, SPECIAL_CHARACTERS: -1},
        energy_footprint={"core_power": 1e300},
        tags=[Tag("b", SPECIAL_CHARACTERS), Tag("a", "one"), Tag("a", "one")],
    )
    with database.transaction() as conn:
        started = jobs.insert(conn, job, 0)
        jobs.stop(conn, started, "failed", START + 60)
    job.cluster = "other"
    [loaded] = load(database, replace(job, job_state=JobState.FAILED, stop_time=START + 60))
    expected = read_job(database, started)
    expected.id, expected.cluster = loaded, "other"
    assert read_job(database, loaded) == expected
    assert tag_pairs(expected) == [("a", "one"), ("b", SPECIAL_CHARACTERS)]
    assert (expected.submit_time, expected.requested_memory) == (START - 60, 128_000)
    assert expected.energy == 0.1
    assert orjson.loads(expected.footprint or "") == {"mem_bw_avg": 1.5, SPECIAL_CHARACTERS: -1}
    assert expected.energy_footprint == '{"core_power":1e+300}'


def test_missing_fields_stay_null(database: Database) -> None:
    [id_] = load(database, new_job(1))
    job = read_job(database, id_)
    assert job.is_running
    assert (job.stop_time, job.partition, job.walltime) == (None, None, None)
    assert (job.meta_data, job.statistics, job.tags) == (None, None, "[]")


def test_ids_follow_the_order_of_the_jobs(database: Database) -> None:
    with database.transaction() as conn:
        before = jobs.insert(conn, new_job(1), 0)
    ids = load(database, *(finished_job(job_id) for job_id in range(2, 12)))
    with database.transaction() as conn:
        after = jobs.insert(conn, new_job(12), 0)
    assert [before, *ids, after] == list(range(before, before + 12))
    assert [read_job(database, id_).job_id for id_ in ids] == list(range(2, 12))


def test_existing_tags_are_reused(database: Database) -> None:
    with database.transaction() as conn:
        first = jobs.insert(conn, new_job(1, tags=[Tag("a", "one")]), 0)
    ids = load(
        database,
        finished_job(2, tags=[Tag("a", "one"), Tag("a", "two")]),
        finished_job(3),
        finished_job(4, tags=[Tag("a", "two")]),
    )
    names = [tag_pairs(read_job(database, id_)) for id_ in (first, *ids)]
    one, two = ("a", "one"), ("a", "two")
    assert names == [[one], [one, two], [], [two]]
    with database.connection() as conn:
        assert conn.execute("SELECT count(*) FROM tags").fetchone() == (2,)


def test_loading_no_jobs_returns_no_ids(database: Database) -> None:
    assert load(database) == []


def test_registered_run_makes_the_whole_load_fail(database: Database) -> None:
    load(database, finished_job(7))
    with pytest.raises(psycopg.errors.UniqueViolation):
        load(database, finished_job(8), finished_job(7))
    with database.connection() as conn:
        assert bulk_insert.count_cluster_jobs(conn, "demo") == (1, 7)


def test_load_is_rolled_back_with_the_transaction(database: Database) -> None:
    with database.transaction() as conn, conn.transaction(force_rollback=True):
        bulk_insert.load(conn, [finished_job(1, tags=[Tag("a", "one")])])
    with database.connection() as conn:
        assert bulk_insert.count_cluster_jobs(conn, "demo") == (0, 0)


def test_jobs_are_counted_per_cluster(database: Database) -> None:
    load(database, finished_job(3), finished_job(9), finished_job(100, cluster="other"))
    with database.connection() as conn:
        assert bulk_insert.count_cluster_jobs(conn, "demo") == (2, 9)


def test_analyze_updates_planner_statistics(database: Database) -> None:
    numbers = count(1)
    load(database, *(finished_job(next(numbers)) for _ in range(500)))
    with database.connection() as conn:
        bulk_insert.analyze(conn)
        row = conn.execute("SELECT reltuples FROM pg_class WHERE relname = 'jobs'").fetchone()
    assert row
    assert row[0] >= 500
