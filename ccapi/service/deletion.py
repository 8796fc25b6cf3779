"""Delete jobs from the database; the archive is never touched."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ccapi.context import MAX_REQUEST_SECONDS, Context
from ccapi.errors import NoMatchingJob, Unfinished
from ccapi.model.job import JobSelection, ListPosition
from ccapi.repository import deletion
from ccapi.repository.deletion import OldJobs
from ccapi.service import lifecycle

# So few jobs that to delete them takes some 3 ms: others who come meanwhile wait for a processor,
# and for what is written to be on the disk, no longer than that.
BATCH = 100
_PAUSE = 1.0


@contextmanager
def _batch() -> Iterator[None]:
    """Do a batch within the block, then leave disk and processors to others as long as it took."""
    begun = time.monotonic()
    yield
    time.sleep((time.monotonic() - begun) * _PAUSE)


_MAX_SECONDS = MAX_REQUEST_SECONDS - 20.0


def delete(context: Context, wanted: JobSelection) -> int:
    """Delete the one job that a selection means and return its database id.

    Raises NoMatchingJob, and SeveralJobsMatch: nothing is deleted then.
    """
    with context.database.transaction() as conn:
        match = lifecycle.require_single(lifecycle.find(conn, wanted), "jobs")
        if not deletion.delete(conn, match.id):
            raise NoMatchingJob(f"finding job failed: {match} was deleted meanwhile")
    return match.id


def delete_by_id(context: Context, id_: int) -> None:
    """Delete the job with a database id; raises NoMatchingJob."""
    with context.database.transaction() as conn:
        if not deletion.delete(conn, id_):
            raise NoMatchingJob(f"finding job failed: no job has the database id {id_}")


def delete_before(context: Context, start_time: int) -> int:
    """Delete every job that started before a time, whatever its state; return how many.

    Works in batches of a statement each, so that starts and stops are not kept
    waiting; what was deleted stays so when a later batch fails. Raises Unfinished.
    """
    deleted, since = 0, 0
    deadline = time.monotonic() + _MAX_SECONDS
    while time.monotonic() < deadline:
        with _batch(), context.database.statement() as conn:
            batch = deletion.delete_before(conn, start_time, BATCH, since)
        deleted += batch.number
        if batch.latest_start is None and since == 0:
            return deleted
        # At the end once more from the beginning: older ones may have come meanwhile.
        since = batch.latest_start or 0
    raise Unfinished(
        f"deleted {deleted} jobs that started before {start_time}, and there may be more: "
        "send the request again, or run `ccapi jobs prune`"
    )


def count(context: Context, before: int) -> OldJobs:
    """Count the jobs that started before a time, by what keeps them."""
    with context.database.session() as conn:
        return deletion.count(conn, before)


def prune(context: Context, before: int, *, unarchived_too: bool = False) -> Iterator[int]:
    """Delete finished jobs that started before a time; yield how many after each batch.

    Only archived ones, unless told otherwise; running ones never. Each batch is a
    statement, so that others do not wait and an end in the middle keeps what was done.
    """
    place = ListPosition(0, 0)
    while True:
        with _batch(), context.database.statement() as conn:
            batch = deletion.prune(conn, before, place, BATCH, unarchived_too=unarchived_too)
        if batch is None:
            return
        yield batch.deleted
        place = batch.place
