"""Delete jobs from the database: sql/queries/deletion.sql."""

from typing import NamedTuple

from psycopg.rows import class_row

from ccapi.db import queries
from ccapi.db.pool import Connection
from ccapi.model.job import ListPosition
from ccapi.model.token import ALL_JOBS, Scope
from ccapi.repository.jobs import scope_params

_SQL = queries.load("deletion")


class DeletedBatch(NamedTuple):
    """How many jobs a batch deleted, and its latest start; None at the end."""

    deleted: int
    latest_start: int | None


class PrunedBatch(NamedTuple):
    """How many jobs a batch deleted, and the position of the last job it looked at."""

    deleted: int
    start_time: int
    id: int

    @property
    def position(self) -> ListPosition:
        """Return where the next batch begins."""
        return ListPosition(self.start_time, self.id)


class OldJobs(NamedTuple):
    """How many jobs started before a time; `unarchived` ones are finished, too."""

    archived: int
    running: int
    unarchived: int


def delete(conn: Connection, id_: int, scope: Scope = ALL_JOBS) -> bool:
    """Delete one job; False if there is none."""
    return conn.execute(_SQL["delete_job"], {"id": id_, **scope_params(scope)}).rowcount == 1


def delete_before(
    conn: Connection,
    before: int,
    limit: int,
    since: int = 0,
    *,
    omit_tagged: bool = False,
    scope: Scope = ALL_JOBS,
) -> DeletedBatch:
    """Delete at most `limit` jobs that started before a time, the oldest since another."""
    params = {
        "since": since,
        "before": before,
        "limit": limit,
        "omit_tagged": omit_tagged,
        **scope_params(scope),
    }
    row = conn.execute(_SQL["delete_jobs_before"], params).fetchone()
    return DeletedBatch(*(row or (0, None)))


def prune(
    conn: Connection, before: int, after: ListPosition, limit: int, *, with_unarchived: bool
) -> PrunedBatch | None:
    """Delete at most `limit` finished jobs after a position; None if there are no more."""
    params = {
        "before": before,
        "after_start_time": after.key,
        "after_id": after.id,
        "limit": limit,
        "with_unarchived": with_unarchived,
    }
    with conn.cursor(row_factory=class_row(PrunedBatch)) as cursor:
        return cursor.execute(_SQL["prune_jobs"], params, prepare=False).fetchone()


def delete_unused_tags(conn: Connection, after_id: int, limit: int) -> int | None:
    """Delete at most `limit` tags that no job has, after an id, in the caller's transaction.

    Returns the last id; None if there are no more.
    """
    params = {"after_id": after_id, "limit": limit}
    ids = [id_ for (id_,) in conn.execute(_SQL["lock_unused_tags"], params)]
    conn.execute(_SQL["delete_unused_tags"], {"ids": ids})
    return max(ids, default=None)


def delete_old_hosts(conn: Connection, before: int) -> None:
    """Delete the hosts that started no job since a time and have none left, in a transaction."""
    conn.execute(_SQL["lock_hosts"])
    conn.execute(_SQL["delete_old_hosts"], {"before": before})


def count_old(conn: Connection, before: int) -> OldJobs:
    """Count the jobs that started before a time."""
    with conn.cursor(row_factory=class_row(OldJobs)) as cursor:
        counts = cursor.execute(_SQL["count_old_jobs"], {"before": before}).fetchone()
    assert counts is not None
    return counts
