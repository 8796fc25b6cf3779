"""What is known of a job is put right afterwards; what its end was is kept."""

from collections.abc import Mapping
from typing import NamedTuple

import orjson

from ccapi.errors import InvalidInput, StillRunning, UnknownJob
from ccapi.model.correction import Correction
from ccapi.model.job import Job
from ccapi.repository import edits as corrections, jobs
from ccapi.db.pool import Connection
from ccapi.service import amending
from ccapi.context import Registry


class End(NamedTuple):
    """How and when a job ended; None is "as it is"."""

    job_state: str | None
    stop_time: int | None


def correct(registry: Registry, id_: int, end: End, corrected_by: str) -> Job:
    """Give a stopped job another end in database and archive, and return it.

    What it was is in the job's history then; the end that it has already leaves no trace.
    Raises UnknownJob, StillRunning, InvalidInput for a stop before the start, and
    ArchiveError when its file cannot be written: nothing is changed then.
    """

    def change(conn: Connection) -> None:
        match = jobs.get_match(conn, id_)
        if match is None or match.is_running:
            raise StillRunning(f"{match} has not ended: report its stop with stop_job")
        if end.stop_time is not None and end.stop_time < match.start_time:
            expected = f"must not be before startTime, {match.start_time}"
            raise InvalidInput.of("stopTime", expected)
        corrections.correct(conn, id_, end.job_state, end.stop_time, corrected_by)

    return amending.amend(registry, id_, change)


def edit_meta_data(registry: Registry, id_: int, edits: Mapping[str, str | None]) -> Job:
    """Set keys of a job's metadata, remove those that are None, and return the job.

    Other keys stay. Raises UnknownJob, and ArchiveError when its file cannot be written.
    """

    def change(conn: Connection) -> None:
        job = jobs.get(conn, id_)
        former = orjson.loads((job and job.meta_data) or "{}")
        merged = {key: value for key, value in {**former, **edits}.items() if value is not None}
        corrections.replace_meta_data(conn, id_, merged)

    return amending.amend(registry, id_, change)


def history(registry: Registry, id_: int) -> tuple[Job, list[Correction]]:
    """Return a job and what was corrected of its end, the first first; raises UnknownJob."""
    with registry.database.snapshot() as conn:
        job = jobs.get(conn, id_)
        if job is None:
            raise UnknownJob(f"no job has the database id {id_}")
        return job, corrections.of_job(conn, id_)
