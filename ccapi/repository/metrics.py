"""Gauges for monitoring, and overdue jobs: sql/queries/metrics.sql."""

from typing import NamedTuple

from psycopg.rows import class_row

from ccapi.db import queries
from ccapi.db.pool import Connection

_SQL = queries.load("metrics")
_MAX_BACKLOG = 100_000


class ArchiveBacklog(NamedTuple):
    """Stopped jobs that are not archived; counted up to 100,000."""

    pending: int
    failed: int
    oldest_stop_time: int | None


class OverdueJob(NamedTuple):
    """A running job that is past its walltime; times are epoch seconds, walltime seconds."""

    id: int
    job_id: int
    cluster: str
    start_time: int
    walltime: int


def count_running_jobs(conn: Connection) -> dict[str, int]:
    """Count the running jobs by cluster."""
    return dict(conn.execute(_SQL["count_running_jobs"]).fetchall())


def archive_backlog(conn: Connection) -> ArchiveBacklog:
    """Count the jobs in the archive queue."""
    row = conn.execute(_SQL["archive_backlog"], {"limit": _MAX_BACKLOG}).fetchone()
    assert row is not None
    return ArchiveBacklog(*row)


def list_overdue_jobs(
    conn: Connection, now: int, grace: int, cluster: str | None = None, limit: int | None = None
) -> list[OverdueJob]:
    """List the running jobs that are past their walltime and a grace, the most overdue first."""
    params = {"now": now, "grace": grace, "cluster": cluster, "limit": limit}
    with conn.cursor(row_factory=class_row(OverdueJob)) as cursor:
        return cursor.execute(_SQL["list_overdue_jobs"], params).fetchall()
