"""Finding the one job that a request means."""

from collections.abc import Sequence

from ccapi.errors import NoMatchingJob, SeveralJobsMatch
from ccapi.model.job import JobSelection
from ccapi.repository import jobs
from ccapi.repository.database import Connection

_LISTED = 10


def find(conn: Connection, selection: JobSelection) -> list[jobs.Match]:
    """Find the runs that a selection means, running ones first; one more than is ever listed.

    Raises NoMatchingJob.
    """
    matches = jobs.match(conn, selection, _LISTED + 1)
    if not matches:
        raise NoMatchingJob(f"finding job failed: no job has {selection}")
    return matches


def find_by_id(conn: Connection, id_: int) -> jobs.Match:
    """Find the run with a database id; raises NoMatchingJob."""
    match = jobs.get_match(conn, id_)
    if match is None:
        raise NoMatchingJob(f"finding job failed: no job has the database id {id_}")
    return match


def require_single(matches: Sequence[jobs.Match], what: str) -> jobs.Match:
    """Return the only match; raises SeveralJobsMatch, which lists them."""
    if len(matches) > 1:
        listed = "; ".join(str(match) for match in matches[:_LISTED])
        more = "; and more" if len(matches) > _LISTED else ""
        raise SeveralJobsMatch(
            f"finding job failed: several {what} match: {listed}{more}. "
            "Add cluster or startTime, or use the database id"
        )
    return matches[0]
