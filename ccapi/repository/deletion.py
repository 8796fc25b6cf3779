"""Old jobs that may leave the database: sql/queries/pruning.sql."""

from typing import NamedTuple

from psycopg.rows import class_row

from ccapi.model.job import ListPosition
from ccapi.db import queries
from ccapi.db.pool import Connection

_SQL = queries.load("pruning")


class OldJobs(NamedTuple):
    """How many jobs started before a time; `unarchived` ones are finished, too."""

    archived: int
    running: int
    unarchived: int


class Pruned(NamedTuple):
    """How many jobs a batch deleted, and the place of the last one it looked at."""

    deleted: int
    start_time: int
    id: int

    @property
    def place(self) -> ListPosition:
        """Return where the next batch begins."""
        return ListPosition(self.start_time, self.id)


def prune(
    conn: Connection, before: int, after: ListPosition, limit: int, *, unarchived_too: bool
) -> Pruned | None:
    """Delete at most `limit` finished jobs after a place; None when there are no more."""
    parameters = {
        "before": before,
        "after_start_time": after.start_time,
        "after_id": after.id,
        "limit": limit,
        "unarchived_too": unarchived_too,
    }
    with conn.cursor(row_factory=class_row(Pruned)) as cursor:
        return cursor.execute(_SQL["prune_jobs"], parameters, prepare=False).fetchone()


def count(conn: Connection, before: int) -> OldJobs:
    """Count the jobs that started before a time."""
    with conn.cursor(row_factory=class_row(OldJobs)) as cursor:
        found = cursor.execute(_SQL["count_old"], {"before": before}).fetchone()
    assert found is not None
    return found
