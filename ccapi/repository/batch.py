"""Start, stop and archive several jobs with one statement each: sql/queries/batch.sql."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import orjson
from psycopg.rows import scalar_row

from ccapi.db import queries
from ccapi.db.pool import Connection
from ccapi.model.job import Job, JobSelection, NewJob
from ccapi.model.token import Scope
from ccapi.repository import bulk_insert, codec
from ccapi.repository.jobs import RunRef, scope_params

_SQL = queries.load("batch")


def lock(conn: Connection, jobs: Sequence[NewJob]) -> None:
    """Make other starts of these jobs' numbers wait until the end of the transaction."""
    params = {
        "clusters": [job.cluster for job in jobs],
        "job_ids": [job.job_id for job in jobs],
    }
    conn.execute(_SQL["lock_starts"], params)


def insert(
    conn: Connection, jobs: Mapping[int, NewJob], duplicate_window: int
) -> tuple[dict[int, int], dict[int, int]]:
    """Register jobs, by their job ids, whose numbers the transaction has locked.

    Returns the database ids of the new jobs, and of those that exist already, by job id.
    """
    params = {
        "jobs": orjson.dumps([codec.to_row(job) for job in jobs.values()]).decode(),
        "duplicate_window": duplicate_window,
    }
    created: dict[int, int] = {}
    existing: dict[int, int] = {}
    for job_id, id_, is_new in conn.execute(_SQL["insert_jobs"], params):
        (created if is_new else existing)[job_id] = id_
    if created:
        new = [jobs[job_id] for job_id in created]
        hosts = {host for job in new for host in job.hostnames}
        bulk_insert.register_hosts(conn, hosts, max(job.start_time for job in new))
        bulk_insert.attach_tags(conn, {id_: jobs[job_id].tags for job_id, id_ in created.items()})
    return created, existing


def find(
    conn: Connection, selections: Sequence[JobSelection], limit: int, scope: Scope
) -> list[list[RunRef]]:
    """Find at most `limit` runs of each selection, running ones first, then the latest."""
    params = {
        "job_ids": [selection.job_id for selection in selections],
        "clusters": [selection.cluster for selection in selections],
        "start_times": [selection.start_time for selection in selections],
        "limit": limit,
        **scope_params(scope),
    }
    runs: defaultdict[int, list[RunRef]] = defaultdict(list)
    for number, id_, job_id, cluster, start_time, state in conn.execute(_SQL["find_runs"], params):
        runs[number].append(
            RunRef(id=id_, job_id=job_id, cluster=cluster, start_time=start_time, job_state=state)
        )
    return [runs[number] for number in range(1, len(selections) + 1)]


def stop(conn: Connection, ends: Mapping[int, tuple[str, int]]) -> set[int]:
    """Give running jobs their final states and stop times, by database id.

    Returns the ids of those that were still running.
    """
    # In order, so that two batches at once do not deadlock.
    ids = sorted(ends)
    params = {
        "ids": ids,
        "job_states": [ends[id_][0] for id_ in ids],
        "stop_times": [ends[id_][1] for id_ in ids],
    }
    with conn.cursor(row_factory=scalar_row) as cursor:
        return set(cursor.execute(_SQL["stop_jobs"], params))


def get(conn: Connection, ids: Sequence[int]) -> dict[int, Job]:
    """Read jobs by their database ids."""
    with conn.cursor(row_factory=codec.job_row) as cursor:
        jobs = cursor.execute(_SQL["get_jobs"], {"ids": ids}).fetchall()
    return {job.id: job for job in jobs if job.id is not None}


def dequeue(conn: Connection, ids: Sequence[int]) -> dict[int, bool]:
    """Take jobs from the archive queue, and return whether each has changed since its stop."""
    return dict(conn.execute(_SQL["dequeue_jobs"], {"ids": ids}).fetchall())


def requeue(conn: Connection, ids: Sequence[int]) -> None:
    """Return jobs whose files could not be written to the queue."""
    conn.execute(_SQL["requeue_jobs"], {"ids": ids})
