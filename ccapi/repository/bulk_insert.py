"""Many jobs at once, finished ones too: sql/queries/bulk.sql."""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import orjson
from psycopg.rows import scalar_row

from ccapi.model.job import Job, JobKey, JobState, NewJob, Tag
from ccapi.repository import codec as packing
from ccapi.db import queries
from ccapi.db.pool import Connection

_SQL = queries.load("bulk")


class RecordedJob(NamedTuple):
    """A run as it went; `stop_time` is None exactly while it runs."""

    job: NewJob
    job_state: JobState = JobState.RUNNING
    stop_time: int | None = None


class ClusterJobs(NamedTuple):
    """How many jobs a cluster has; `largest_job_id` is 0 when it has none."""

    number: int
    largest_job_id: int


def load(conn: Connection, jobs: Sequence[RecordedJob]) -> list[int]:
    """Add jobs with their tags by COPY and return their database ids, in order.

    They share the caller's transaction, and its memory: some thousands at a time are fast. The
    duplicate window is not looked at; a run that is registered exactly so already is psycopg's
    UniqueViolation. `analyze` is to follow the last ones.
    """
    _note_hosts(conn, {host for recorded in jobs for host in recorded.job.hostnames})
    ids = _reserve_ids(conn, len(jobs))
    with conn.cursor() as cursor, cursor.copy(_SQL["copy_jobs"]) as copy:
        for id_, recorded in zip(ids, jobs, strict=True):
            copy.write_row(_row(id_, recorded))
    _load_tags(conn, [(id_, recorded.job.tags) for id_, recorded in zip(ids, jobs, strict=True)])
    return ids


def import_finished(conn: Connection, jobs: Sequence[Job]) -> set[JobKey]:
    """Add finished jobs with their tags, but for runs that are there, and name those added.

    They share the caller's transaction, and its memory, as with `load`.
    """
    _note_hosts(conn, {node["hostname"] for job in jobs for node in orjson.loads(job.resources)})
    packed = orjson.dumps(list(map(packing.packed, jobs))).decode()
    rows = conn.execute(_SQL["adopt_jobs"], {"jobs": packed}).fetchall()
    ids = {JobKey(*key): id_ for id_, *key in rows}
    tags = {JobKey(job.cluster, job.job_id, job.start_time): _tags(job) for job in jobs}
    _load_tags(conn, [(id_, tags[key]) for key, id_ in ids.items()])
    return set(ids)


def analyze(conn: Connection) -> None:
    """Bring the planner's statistics up to date."""
    conn.execute(_SQL["analyze"])


def count_cluster(conn: Connection, cluster: str) -> ClusterJobs:
    """Count the jobs of a cluster."""
    row = conn.execute(_SQL["count_cluster"], {"cluster": cluster}).fetchone()
    assert row is not None
    return ClusterJobs(*row)


def _note_hosts(conn: Connection, hosts: set[str]) -> None:
    conn.execute(_SQL["note_hosts"], {"hosts": sorted(hosts)})


def _reserve_ids(conn: Connection, count: int) -> list[int]:
    with conn.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(_SQL["reserve_job_ids"], {"count": count}).fetchall()


def _row(id_: int, recorded: RecordedJob) -> tuple[object, ...]:
    """Return the columns in copy_jobs' order."""
    job = recorded.job
    return (
        id_,
        job.job_id,
        job.cluster,
        job.start_time,
        recorded.stop_time,
        recorded.job_state.value,
        job.user_name,
        job.project,
        job.sub_cluster,
        job.partition,
        job.array_job_id,
        job.num_nodes,
        job.num_hwthreads,
        job.num_acc,
        job.exclusive,
        job.smt,
        job.walltime,
        job.monitoring_status,
        packing.resources(job.resources),
        packing.meta_data(job.meta_data),
        packing.statistics(job.statistics),
    )


def _tags(job: Job) -> list[Tag]:
    return [Tag(tag["type"], tag["name"]) for tag in orjson.loads(job.tags)]


def _load_tags(conn: Connection, tagged: Sequence[tuple[int, Sequence[Tag]]]) -> None:
    """Give jobs, named by their database ids, tags."""
    wanted = set(chain.from_iterable(tags for _, tags in tagged))
    if not wanted:
        return
    tag_ids = _ensure_tags(conn, wanted)
    with conn.cursor() as cursor, cursor.copy(_SQL["copy_job_tags"]) as copy:
        for id_, tags in tagged:
            for tag in set(tags):
                copy.write_row((id_, tag_ids[tag]))


def _ensure_tags(conn: Connection, tags: set[Tag]) -> dict[Tag, int]:
    parameters = {"types": [tag.type for tag in tags], "names": [tag.name for tag in tags]}
    rows = conn.execute(_SQL["ensure_tags"], parameters)
    return {Tag(type_, name): id_ for id_, type_, name in rows}
