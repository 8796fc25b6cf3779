"""Running jobs that should have ended: sql/queries/overdue.sql."""

from typing import NamedTuple

from psycopg.rows import class_row

from ccapi.repository import queries
from ccapi.repository.database import Connection

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
