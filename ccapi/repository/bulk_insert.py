"""Insert many jobs at once: sql/queries/bulk_insert.sql."""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import orjson
from psycopg.rows import scalar_row

from ccapi.db import queries
from ccapi.db.pool import Connection
from ccapi.model.job import Job, JobKey, NewJob, Tag
from ccapi.repository import codec

_SQL = queries.load("bulk_insert")


class ClusterJobs(NamedTuple):
    """How many jobs a cluster has, and their largest job id; 0 without any."""

    number: int
    max_job_id: int


def load(conn: Connection, jobs: Sequence[NewJob]) -> list[int]:
    """Insert jobs with their tags by COPY and return their database ids, in order.

    They share the caller's transaction and memory: some thousands at a time are fast. Ignores
    the duplicate window; raises psycopg's UniqueViolation for a run that exists. Call
    `analyze` after the last ones.
    """
    register_hosts(
        conn,
        {host for job in jobs for host in job.hostnames},
        max((job.start_time for job in jobs), default=0),
    )
    with conn.cursor(row_factory=scalar_row) as cursor:
        ids = cursor.execute(_SQL["reserve_job_ids"], {"count": len(jobs)}).fetchall()
    with conn.cursor() as cursor, cursor.copy(_SQL["copy_jobs"]) as copy:
        for id_, job in zip(ids, jobs, strict=True):
            copy.write_row([id_, *codec.to_copy_row(job)])
    attach_tags(conn, {id_: job.tags for id_, job in zip(ids, jobs, strict=True)})
    return ids


def import_finished(conn: Connection, jobs: Sequence[Job]) -> set[JobKey]:
    """Insert finished jobs with their tags, skip runs that exist, and return the new keys.

    They share the caller's transaction and memory, as with `load`.
    """
    register_hosts(
        conn,
        {node["hostname"] for job in jobs for node in orjson.loads(job.resources)},
        max((job.start_time for job in jobs), default=0),
    )
    rows = orjson.dumps([codec.to_row(job) for job in jobs]).decode()
    inserted = conn.execute(_SQL["import_jobs"], {"jobs": rows}).fetchall()
    ids = {JobKey(*key): id_ for id_, *key in inserted}
    tags = {job.key: orjson.loads(job.tags) for job in jobs}
    attach_tags(
        conn,
        {id_: [Tag(tag["type"], tag["name"]) for tag in tags[key]] for key, id_ in ids.items()},
    )
    return set(ids)


def analyze(conn: Connection) -> None:
    """Update the planner's statistics."""
    conn.execute(_SQL["analyze"])


def count_cluster_jobs(conn: Connection, cluster: str) -> ClusterJobs:
    """Count the jobs of a cluster."""
    row = conn.execute(_SQL["count_cluster_jobs"], {"cluster": cluster}).fetchone()
    assert row is not None
    return ClusterJobs(*row)


def register_hosts(conn: Connection, hosts: set[str], start_time: int) -> None:
    """Add the hosts of new jobs, the latest of which started then, to those of lists."""
    conn.execute(_SQL["register_hosts"], {"hosts": sorted(hosts), "start_time": start_time})


def attach_tags(conn: Connection, tags_by_id: dict[int, list[Tag]]) -> None:
    """Add tags to new jobs by their database ids."""
    tags = set(chain.from_iterable(tags_by_id.values()))
    if not tags:
        return
    rows = conn.execute(_SQL["ensure_tags"], {"tags": codec.tags_json(tags)})
    tag_ids = {Tag(type_, name): id_ for id_, type_, name in rows}
    with conn.cursor() as cursor, cursor.copy(_SQL["copy_job_tags"]) as copy:
        for id_, job_tags in tags_by_id.items():
            for tag in set(job_tags):
                copy.write_row((id_, tag_ids[tag]))
