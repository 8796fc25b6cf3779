"""The jobs that were pruned from the database: sql/queries/pruned_jobs.sql."""

from collections.abc import Collection

from ccapi.db import queries
from ccapi.db.pool import Connection
from ccapi.model.job import JobKey
from ccapi.repository.jobs import key_params

_SQL = queries.load("pruned_jobs")
FIRST = JobKey("", 0, 0)


def find(conn: Connection, keys: Collection[JobKey]) -> set[JobKey]:
    """Return which of these runs were pruned."""
    return {JobKey(*row) for row in conn.execute(_SQL["find_pruned_jobs"], key_params(keys))}


def list_after(conn: Connection, key: JobKey, limit: int) -> list[JobKey]:
    """List at most `limit` pruned runs after one of them, in order; FIRST is before all."""
    params = {**key._asdict(), "limit": limit}
    return [JobKey(*row) for row in conn.execute(_SQL["list_pruned_jobs"], params)]


def discard(conn: Connection, keys: Collection[JobKey]) -> None:
    """Discard the records of pruned runs, because they are in the database again."""
    conn.execute(_SQL["discard_pruned_jobs"], key_params(keys))


def discard_before(conn: Connection, before: int) -> int:
    """Discard the records of pruned runs that started before a time; return how many."""
    return conn.execute(_SQL["discard_pruned_jobs_before"], {"before": before}).rowcount
