"""Probe the database: sql/queries/health.sql."""

from ccapi.db import queries
from ccapi.db.pool import Connection

_SQL = queries.load("health")


def write_as_a_start(conn: Connection) -> None:
    """Do in a transaction what a start needs: its locks, and a commit that reaches the disk."""
    conn.execute(_SQL["limit_lock_wait"])
    conn.execute(_SQL["lock_as_a_start"])
    conn.execute(_SQL["write_log"])
