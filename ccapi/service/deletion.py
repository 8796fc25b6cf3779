"""Delete jobs from the database; the archive is never touched."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ccapi.context import MAX_REQUEST_SECONDS, Context
from ccapi.errors import NoMatchingJob, Unfinished
from ccapi.model.job import JobSelection, ListPosition
from ccapi.repository import deletion
from ccapi.service import lifecycle

_MAX_SECONDS = MAX_REQUEST_SECONDS - 20.0
# Deleting so few jobs takes about 3 ms; other requests wait no longer than that.
BATCH_SIZE = 100
_TAGS = 1_000


def delete(context: Context, selection: JobSelection) -> int:
    """Delete the one selected job and return its database id.

    Raises NoMatchingJob, and SeveralJobsMatch: then nothing is deleted.
    """
    with context.database.transaction() as conn:
        run = lifecycle.require_single(lifecycle.find(conn, selection, context.scope), "jobs")
        if not deletion.delete(conn, run.id):
            raise NoMatchingJob(f"finding job failed: {run} was deleted meanwhile")
    return run.id


def delete_by_id(context: Context, id_: int) -> None:
    """Delete the job with a database id; raises NoMatchingJob."""
    with context.database.transaction() as conn:
        if not deletion.delete(conn, id_, context.scope):
            raise NoMatchingJob.with_id(id_)


def delete_before(context: Context, start_time: int, *, omit_tagged: bool = False) -> int:
    """Delete every job that started before a time, whatever its state; return how many.

    With `omit_tagged`, jobs with a tag stay.

    Each batch is one statement, so that starts and stops need not wait; a failure keeps the
    batches before it. At the end, tags and hosts that no job has are deleted, too. Raises
    Unfinished.
    """
    deleted, since = 0, 0
    deadline = time.monotonic() + _MAX_SECONDS
    while time.monotonic() < deadline:
        with _pause_after(), context.database.connection() as conn:
            batch = deletion.delete_before(
                conn,
                start_time,
                BATCH_SIZE,
                since,
                omit_tagged=omit_tagged,
                scope=context.scope,
            )
        deleted += batch.deleted
        if batch.latest_start is None and since == 0:
            _delete_unused(context, start_time, deadline)
            return deleted
        # At the end, start over once: older jobs may have been added meanwhile.
        since = batch.latest_start or 0
    raise Unfinished(
        f"deleted {deleted} jobs that started before {start_time}, and there may be more: "
        "send the request again, or run `ccapi jobs prune`"
    )


def prune(context: Context, before: int, *, with_unarchived: bool = False) -> Iterator[int]:
    """Delete finished jobs that started before a time; yield the number of each batch.

    Keeps running jobs and, unless `with_unarchived`, those that are not archived yet. Each
    batch is one statement; an interruption keeps what was done. At the end, tags and hosts that no
    job has are deleted, too.
    """
    position = ListPosition(0, 0)
    while True:
        with _pause_after(), context.database.connection() as conn:
            batch = deletion.prune(
                conn, before, position, BATCH_SIZE, with_unarchived=with_unarchived
            )
        if batch is None:
            _delete_unused(context, before, math.inf)
            return
        yield batch.deleted
        position = batch.position


def _delete_unused(context: Context, before: int, deadline: float) -> None:
    """Delete tags that no job has, and hosts that started none since a time and have none left."""
    last: int | None = 0
    while last is not None and time.monotonic() < deadline:
        with _pause_after(), context.database.transaction() as conn:
            last = deletion.delete_unused_tags(conn, last, _TAGS)
    with context.database.transaction() as conn:
        deletion.delete_old_hosts(conn, before)


@contextmanager
def _pause_after() -> Iterator[None]:
    """Pause after the block for as long as it took: disk and processor are for others, too."""
    started = time.monotonic()
    yield
    time.sleep(time.monotonic() - started)
