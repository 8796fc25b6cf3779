"""Jobs leave the database; the archive is never touched."""

import time

from ccapi.errors import NoMatchingJob, Unfinished
from ccapi.model.job import JobSelection
from ccapi.repository import jobs
from ccapi.service import pace, selection
from ccapi.context import Registry

_LONGEST_SECONDS = pace.LONGEST_REQUEST - 20.0


def delete(registry: Registry, wanted: JobSelection) -> int:
    """Delete the one job that a selection means and return its database id.

    Raises NoMatchingJob, and SeveralJobsMatch: nothing is deleted then.
    """
    with registry.database.transaction() as conn:
        match = selection.require_single(selection.find(conn, wanted), "jobs")
        if not jobs.delete(conn, match.id):
            raise NoMatchingJob(f"finding job failed: {match} was deleted meanwhile")
    return match.id


def delete_by_id(registry: Registry, id_: int) -> None:
    """Delete the job with a database id; raises NoMatchingJob."""
    with registry.database.transaction() as conn:
        if not jobs.delete(conn, id_):
            raise NoMatchingJob(f"finding job failed: no job has the database id {id_}")


def delete_before(registry: Registry, start_time: int) -> int:
    """Delete every job that started before a time, whatever its state; return how many.

    Works in batches of a statement each, so that starts and stops are not kept
    waiting; what was deleted stays so when a later batch fails. Raises Unfinished.
    """
    deleted, since = 0, 0
    deadline = time.monotonic() + _LONGEST_SECONDS
    while time.monotonic() < deadline:
        with pace.batch(), registry.database.statement() as conn:
            batch = jobs.delete_before(conn, start_time, pace.BATCH, since)
        deleted += batch.number
        if batch.latest_start is None and since == 0:
            return deleted
        # At the end once more from the beginning: older ones may have come meanwhile.
        since = batch.latest_start or 0
    raise Unfinished(
        f"deleted {deleted} jobs that started before {start_time}, and there may be more: "
        "send the request again, or run `ccapi jobs prune`"
    )
