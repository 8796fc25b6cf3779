"""Read, start, resize and stop single jobs: sql/queries/jobs.sql."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from psycopg.rows import class_row, scalar_row

from ccapi.db import queries
from ccapi.db.pool import Connection
from ccapi.errors import DuplicateJob
from ccapi.model.job import Allocation, Job, JobKey, JobSelection, JobState, NewJob
from ccapi.model.token import ALL_JOBS, Scope
from ccapi.repository import codec

_SQL = queries.load("jobs")


@dataclass(slots=True, kw_only=True)
class RunRef:
    """The fields that identify a run of a job, and its state."""

    id: int
    job_id: int
    cluster: str
    start_time: int
    job_state: str

    @property
    def is_running(self) -> bool:
        """Return whether the run has not been stopped."""
        return self.job_state == JobState.RUNNING

    def __str__(self) -> str:
        """Describe the run for a message."""
        return (
            f"id {self.id} (jobId {self.job_id} on {self.cluster}, "
            f"startTime {self.start_time}, {self.job_state})"
        )


class QueueEntry(NamedTuple):
    """A stopped job's entry in the archive queue."""

    job_changed: bool


def insert(conn: Connection, job: NewJob, duplicate_window: int) -> int:
    """Register a running job with its tags and return its database id.

    One statement, which needs no transaction around it. Raises DuplicateJob when a run of
    the same cluster and job id starts within `duplicate_window` seconds of it.
    """
    params = {
        "job": orjson.dumps(codec.to_row(job)).decode(),
        "hosts": orjson.dumps(job.hostnames).decode(),
        "tags": codec.tags_json(job.tags),
        "cluster": job.cluster,
        "job_id": job.job_id,
        "start_time": job.start_time,
        "duplicate_window": duplicate_window,
    }
    query = _SQL["insert_tagged_job"] if job.tags else _SQL["insert_job"]
    id_, duplicate = conn.execute(query, params).fetchone() or (None, None)
    if id_ is None:
        raise duplicate_job(job, duplicate)
    return int(id_)


def duplicate_job(job: NewJob, id_: int) -> DuplicateJob:
    """Make the error of a job whose run has a database id already."""
    return DuplicateJob(
        f"jobId {job.job_id} with startTime {job.start_time} is already registered "
        f"on cluster {job.cluster}: its database id is {id_}",
        id_,
    )


def skip_ids(conn: Connection, number: int) -> int:
    """Leave out the next database ids, and return the last of them."""
    [last] = conn.execute(_SQL["skip_ids"], {"number": number}).fetchone() or [0]
    return int(last)


def scope_params(scope: Scope) -> dict[str, list[str] | None]:
    """Return the parameters of sql/fragments/scope_filter.sql."""
    return {
        "scope_users": None if scope.users is None else list(scope.users),
        "scope_projects": None if scope.projects is None else list(scope.projects),
        "scope_clusters": None if scope.clusters is None else list(scope.clusters),
    }


def find(
    conn: Connection, selection: JobSelection, limit: int, scope: Scope = ALL_JOBS
) -> list[RunRef]:
    """Find at most `limit` runs that match a selection, running ones first, then the latest."""
    params = {**selection._asdict(), "limit": limit, **scope_params(scope)}
    with conn.cursor(row_factory=class_row(RunRef)) as cursor:
        return cursor.execute(_SQL["find_jobs"], params).fetchall()


def get_run(conn: Connection, id_: int, scope: Scope = ALL_JOBS) -> RunRef | None:
    """Find one run by its database id."""
    with conn.cursor(row_factory=class_row(RunRef)) as cursor:
        return cursor.execute(_SQL["get_run"], {"id": id_, **scope_params(scope)}).fetchone()


def key_params(keys: Collection[JobKey]) -> dict[str, list[Any]]:
    """Return the parameters of a query for these runs: an array for each column."""
    return {
        "clusters": [key.cluster for key in keys],
        "job_ids": [key.job_id for key in keys],
        "start_times": [key.start_time for key in keys],
    }


def find_by_keys(conn: Connection, keys: Collection[JobKey]) -> dict[JobKey, RunRef]:
    """Find the runs with these keys."""
    with conn.cursor(row_factory=class_row(RunRef)) as cursor:
        runs = cursor.execute(_SQL["find_by_keys"], key_params(keys))
        return {JobKey(run.cluster, run.job_id, run.start_time): run for run in runs}


def lock_by_keys(conn: Connection, keys: Collection[JobKey]) -> set[JobKey]:
    """Lock runs until the end of the transaction; return those whose file may change all the same.

    These run, or wait to be archived.
    """
    rows = conn.execute(_SQL["lock_jobs_by_keys"], key_params(keys))
    return {JobKey(*key) for *key, is_pending in rows if is_pending}


def stop(conn: Connection, id_: int, job_state: str, stop_time: int) -> bool:
    """Give a running job its final state; False if it is not running (any more)."""
    params = {"id": id_, "job_state": job_state, "stop_time": stop_time}
    return conn.execute(_SQL["stop_job"], params).rowcount == 1


def resize(
    conn: Connection, id_: int, allocation: Allocation, meta_data: Mapping[str, str]
) -> None:
    """Give a running job other nodes, and metadata; the caller holds the job's lock."""
    params = {
        "id": id_,
        "resources": orjson.dumps(codec.group_nodes(allocation.resources)).decode(),
        "num_nodes": allocation.num_nodes,
        "num_hwthreads": allocation.num_hwthreads,
        "num_acc": allocation.num_acc,
        "hosts": allocation.hostnames,
        "meta_data": codec.json_or_none(meta_data),
    }
    conn.execute(_SQL["resize_job"], params)


def get(conn: Connection, id_: int, scope: Scope = ALL_JOBS) -> Job | None:
    """Read one job."""
    with conn.cursor(row_factory=codec.job_row) as cursor:
        params = {"id": id_, "sees_metadata": scope.sees_metadata, **scope_params(scope)}
        return cursor.execute(_SQL["get_job"], params).fetchone()


def lock(conn: Connection, id_: int, scope: Scope = ALL_JOBS) -> bool:
    """Lock a job for an edit until the end of the transaction; False if there is none."""
    exists = conn.execute(_SQL["lock_job"], {"id": id_, **scope_params(scope)}).rowcount == 1
    conn.execute(_SQL["mark_job_changed"], {"id": id_})
    return exists


def dequeue(conn: Connection, id_: int) -> QueueEntry | None:
    """Take a stopped job from the archive queue; its entry stays locked in the transaction."""
    row = conn.execute(_SQL["dequeue_job"], {"id": id_}).fetchone()
    return None if row is None else QueueEntry(*row)


def mark_archiving_failed(conn: Connection, id_: int) -> None:
    """Record that a stopped job could not be archived."""
    conn.execute(_SQL["mark_archiving_failed"], {"id": id_})


def enqueue_again(conn: Connection, ids: Collection[int]) -> None:
    """Put archived jobs into the archive queue, because their files may be old."""
    conn.execute(_SQL["enqueue_again"], {"ids": list(ids)})


def list_archive_queue(conn: Connection, after_id: int, limit: int) -> list[int]:
    """List the ids of stopped jobs that are not archived yet, in order."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        params = {"after_id": after_id, "limit": limit}
        return cursor.execute(_SQL["list_archive_queue"], params).fetchall()


def list_finished(conn: Connection, after_id: int, limit: int) -> list[Job]:
    """Read stopped jobs that are archived or should be, in order of id."""
    with conn.cursor(row_factory=codec.job_row) as cursor:
        params = {"after_id": after_id, "limit": limit}
        return cursor.execute(_SQL["list_finished_jobs"], params).fetchall()
