"""Figures about the registry as a whole: sql/queries/observation.sql."""

from typing import NamedTuple

from ccapi.db import queries
from ccapi.db.pool import Connection

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
