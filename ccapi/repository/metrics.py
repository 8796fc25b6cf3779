"""Gauges for monitoring, and overdue jobs: sql/queries/metrics.sql."""

from typing import NamedTuple
from ccapi.db import queries
from ccapi.db.pool import Connection
from psycopg.rows import class_row


_SQL = queries.load("observation")
_MOST_COUNTED = 100_000


class Backlog(NamedTuple):
    """Stopped jobs that are not archived; counted up to 100,000."""

    waiting: int
    failed: int
    oldest_stop_time: int | None


def running_jobs(conn: Connection) -> dict[str, int]:
    """Count the running jobs by cluster."""
    return dict(conn.execute(_SQL["running_jobs"]).fetchall())


def archive_backlog(conn: Connection) -> Backlog:
    """Count what waits for the archive."""
    row = conn.execute(_SQL["archive_backlog"], {"limit": _MOST_COUNTED}).fetchone()
    assert row is not None
    return Backlog(*row)


_SQL = queries.load("overdue")


class OverdueJob(NamedTuple):
    """A running job that is past its walltime; times are epoch seconds, lengths seconds."""

    id: int
    job_id: int
    cluster: str
    start_time: int
    walltime: int


def find(conn: Connection, now: int, grace: int, cluster: str | None = None) -> list[OverdueJob]:
    """Name the running jobs that are past their walltime and a grace, longest first."""
    parameters = {"now": now, "grace": grace, "cluster": cluster}
    with conn.cursor(row_factory=class_row(OverdueJob)) as cursor:
        return cursor.execute(_SQL["overdue_jobs"], parameters).fetchall()


def count(conn: Connection, now: int, grace: int) -> dict[str, int]:
    """Count them by cluster, for a metric; a cluster without any is left out."""
    return dict(conn.execute(_SQL["count_overdue"], {"now": now, "grace": grace}).fetchall())
