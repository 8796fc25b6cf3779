"""Edit a job in the database and in the archive: in both, or in neither."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import orjson

from ccapi.archive import reader, writer
from ccapi.context import Context
from ccapi.db.pool import Connection
from ccapi.errors import ArchiveError, InvalidInput, StillRunning, UnknownJob
from ccapi.model.job import Correction, Job, Tag
from ccapi.repository import edits, jobs

_log = logging.getLogger(__name__)


def _edit(context: Context, id_: int, change: Callable[[Connection], object]) -> Job:
    """Change a job within the transaction that holds it, and return it as it is then.

    An archived job's meta.json is rewritten before this returns. Raises UnknownJob, what
    `change` raises, and ArchiveError when the file cannot be written: nothing is changed then.
    """
    rewritten: _Rewritten | None = None
    try:
        with context.database.transaction() as conn:
            if not jobs.lock(conn, id_):
                raise UnknownJob(f"no job has the database id {id_}")
            change(conn)
            job = jobs.get(conn, id_)
            assert job is not None
            if job.is_archived:
                rewritten = _Rewritten(context, job)
                rewritten.write()
    except BaseException:
        if rewritten is not None:
            rewritten.undo()
        raise
    return job


class _Rewritten:
    """An archived job's file, and how to get its former content back."""

    def __init__(self, context: Context, job: Job) -> None:
        self._root = context.archive_root
        self._job = job
        self._key = job.key
        self._former = reader.read_bytes(self._root, self._key)

    def write(self) -> None:
        writer.write(self._root, self._job)

    def undo(self) -> None:
        """Restore the file after a rename or a commit whose outcome is a failure."""
        try:
            if reader.read_bytes(self._root, self._key) != self._former:
                writer.put(self._root, self._key, self._former)
        except ArchiveError:
            _log.exception("meta.json of job id %s may show a refused change", self._job.id)


class End(NamedTuple):
    """How and when a job ended; None is "as it is"."""

    job_state: str | None
    stop_time: int | None


def correct(context: Context, id_: int, end: End, corrected_by: str) -> Job:
    """Give a stopped job another end in database and archive, and return it.

    What it was is in the job's history then; the end that it has already leaves no trace.
    Raises UnknownJob, StillRunning, InvalidInput for a stop before the start, and
    ArchiveError when its file cannot be written: nothing is changed then.
    """

    def change(conn: Connection) -> None:
        match = jobs.get_run(conn, id_)
        if match is None or match.is_running:
            raise StillRunning(f"{match} has not ended: report its stop with stop_job")
        if end.stop_time is not None and end.stop_time < match.start_time:
            expected = f"must not be before startTime, {match.start_time}"
            raise InvalidInput.of("stopTime", expected)
        edits.correct(conn, id_, end.job_state, end.stop_time, corrected_by)

    return _edit(context, id_, change)


def edit_meta_data(context: Context, id_: int, changes: Mapping[str, str | None]) -> Job:
    """Set keys of a job's metadata, remove those that are None, and return the job.

    Other keys stay. Raises UnknownJob, and ArchiveError when its file cannot be written.
    """

    def change(conn: Connection) -> None:
        job = jobs.get(conn, id_)
        former = orjson.loads((job and job.meta_data) or "{}")
        merged = {key: value for key, value in {**former, **changes}.items() if value is not None}
        edits.replace_meta_data(conn, id_, merged)

    return _edit(context, id_, change)


def history(context: Context, id_: int) -> tuple[Job, list[Correction]]:
    """Return a job and what was corrected of its end, the first first; raises UnknownJob."""
    with context.database.snapshot() as conn:
        job = jobs.get(conn, id_)
        if job is None:
            raise UnknownJob(f"no job has the database id {id_}")
        return job, edits.list_corrections(conn, id_)


def tag(context: Context, id_: int, wanted: Sequence[Tag]) -> Job:
    """Give a job tags, all or none, and return it; one that it has already is left alone.

    Raises UnknownJob, and ArchiveError when its file cannot be written.
    """
    return _edit(context, id_, lambda conn: edits.attach_tags(conn, id_, wanted))


def untag(context: Context, id_: int, unwanted: Sequence[Tag]) -> Job:
    """Take tags from a job and return it; one that it does not have is passed over.

    Raises UnknownJob, and ArchiveError when its file cannot be written.
    """
    return _edit(context, id_, lambda conn: edits.detach_tags(conn, id_, unwanted))
