"""Edit a job in the database and in the archive: in both, or in neither."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import orjson

from ccapi.archive import reader, writer
from ccapi.archive.breaker import ArchiveTimeout
from ccapi.context import Context
from ccapi.db.pool import Connection
from ccapi.errors import (
    AlreadyStopped,
    ArchiveError,
    DatabaseUnavailable,
    InvalidInput,
    StillRunning,
    UnknownJob,
)
from ccapi.model import node_history, rules
from ccapi.model.job import Allocation, Correction, Job, JobSelection, Tag
from ccapi.repository import edits, jobs
from ccapi.service import lifecycle

_log = logging.getLogger(__name__)


class End(NamedTuple):
    """How and when a job ended; None keeps the present value."""

    job_state: str | None
    stop_time: int | None


def correct_end(context: Context, id_: int, end: End, corrected_by: str) -> Job:
    """Give a stopped job another end, and return the job.

    The old end stays in the job's history; the same end again leaves no trace. Raises
    UnknownJob, StillRunning, InvalidInput for a stop before the start, and ArchiveError if
    the file cannot be written: then nothing changes.
    """

    def edit(conn: Connection) -> None:
        run = jobs.get_run(conn, id_)
        if run is None or run.is_running:
            raise StillRunning(f"{run} is still running: report its stop with stop_job")
        if end.stop_time is not None and end.stop_time < run.start_time:
            expected = f"must not be before startTime, {run.start_time}"
            raise InvalidInput.of("stopTime", expected)
        edits.correct_end(conn, id_, end.job_state, end.stop_time, corrected_by)

    return _edit(context, id_, edit)


def resize(
    context: Context, selection: JobSelection, allocation: Allocation, resize_time: int
) -> Job:
    """Give the selected running job other nodes from some time on, and return the job.

    Its metadata keeps the former hosts. The present nodes again, and nodes from before the last
    resize, change nothing. Raises NoMatchingJob, SeveralJobsMatch, AlreadyStopped, UnknownJob, and
    InvalidInput for a time before the start or in the future.
    """
    max_time = int(time.time()) + lifecycle.CLOCK_SKEW_SECONDS
    with context.database.connection() as conn:
        run = lifecycle.select_running(lifecycle.find(conn, selection, context.scope))
    if context.clusters.described:
        lifecycle.count_unknown_hosts(context.clusters, run.cluster, allocation.hostnames)

    def edit(conn: Connection) -> None:
        job = jobs.get(conn, run.id)
        if job is None or not job.is_running:
            raise AlreadyStopped(f"already stopped: {jobs.get_run(conn, run.id) or run}")
        if not job.start_time - lifecycle.CLOCK_SKEW_SECONDS <= resize_time <= max_time:
            expected = f"must be between startTime, {job.start_time}, and now"
            raise InvalidInput.of("resizeTime", expected)
        nodes = orjson.loads(job.resources)
        counts = (job.num_hwthreads, job.num_acc)
        if (nodes, *counts) == (allocation.resources, allocation.num_hwthreads, allocation.num_acc):
            return
        meta_data = orjson.loads(job.meta_data or "{}")
        history = node_history.load(meta_data, max_time)
        last = max(job.start_time, history[-1]["until"] if history else 0)
        if resize_time < last and history:
            return
        # Nodes that the job had for no time are left out of its history.
        if resize_time > last:
            hosts = [node["hostname"] for node in nodes]
            meta_data = node_history.add(meta_data, history, resize_time, hosts)
        jobs.resize(conn, run.id, allocation, meta_data)

    return _edit(context, run.id, edit)


def edit_meta_data(context: Context, id_: int, changes: Mapping[str, str | None]) -> Job:
    """Set keys of a job's metadata, remove those that are None, and return the job.

    Other keys stay. Raises UnknownJob, InvalidInput for too much of it, and ArchiveError if the
    file cannot be written.
    """

    def edit(conn: Connection) -> None:
        job = jobs.get(conn, id_)
        meta_data = orjson.loads((job and job.meta_data) or "{}") | changes
        meta_data = {key: value for key, value in meta_data.items() if value is not None}
        if sum(map(len, meta_data.values())) > rules.MAX_META_DATA_LENGTH:
            expected = f"must have at most {rules.MAX_META_DATA_LENGTH} characters in all"
            raise InvalidInput.of("metaData", expected)
        edits.replace_meta_data(conn, id_, meta_data)

    return _edit(context, id_, edit)


def edit_meta_data_of(
    context: Context, selection: JobSelection, changes: Mapping[str, str | None]
) -> Job:
    """Edit the metadata of the selected job, running or finished, and return the job.

    Raises NoMatchingJob, SeveralJobsMatch, and what `edit_meta_data` raises.
    """
    with context.database.connection() as conn:
        runs = lifecycle.find(conn, selection, context.scope)
    running = [run for run in runs if run.is_running] or runs
    run = lifecycle.require_single(running, "jobs")
    return edit_meta_data(context, run.id, changes)


def replace_statistics(context: Context, id_: int, statistics: Mapping[str, Any]) -> Job:
    """Replace a job's statistics, also in its meta.json, and return the job.

    Raises UnknownJob, and ArchiveError if the file cannot be written.
    """
    return _edit(context, id_, lambda conn: edits.replace_statistics(conn, id_, statistics))


def tag(context: Context, id_: int, tags: Sequence[Tag]) -> Job:
    """Add tags to a job, all or none, and return it; skip tags that it has already.

    Raises UnknownJob, InvalidInput for too many tags, and ArchiveError if the file cannot be
    written.
    """

    def edit(conn: Connection) -> None:
        edits.attach_tags(conn, id_, tags)
        if edits.count_tags(conn, id_) > rules.MAX_TAGS:
            raise InvalidInput(f"a job may have at most {rules.MAX_TAGS} tags: remove some first")

    return _edit(context, id_, edit)


def untag(context: Context, id_: int, tags: Sequence[Tag]) -> Job:
    """Remove tags from a job and return it; skip tags that it does not have.

    Raises UnknownJob, and ArchiveError if the file cannot be written.
    """
    return _edit(context, id_, lambda conn: edits.detach_tags(conn, id_, tags))


def history(context: Context, id_: int) -> tuple[Job, list[Correction]]:
    """Return a job and the corrections of its end in order of time; raises UnknownJob."""
    with context.database.snapshot() as conn:
        job = jobs.get(conn, id_)
        if job is None:
            raise UnknownJob.with_id(id_)
        return job, edits.list_corrections(conn, id_)


class _ArchivedMeanwhile(Exception):
    """The job was archived after the look that found it not archived."""


def _edit(context: Context, id_: int, edit: Callable[[Connection], object]) -> Job:
    """Edit a locked job and, if it is archived, its meta.json; return the edited job.

    Raises UnknownJob, what `edit` raises, and ArchiveError if the file cannot be written.
    Then, and if the commit fails, the database and the file are as before. A record of the edit
    lets `archive.retry` make them agree if the worker dies in between.
    """
    while True:
        with context.database.connection() as conn:
            record = edits.begin_archive_edit(conn, id_)
        try:
            return _edit_on_record(context, id_, edit, record)
        except _ArchivedMeanwhile:
            continue


def _edit_on_record(
    context: Context, id_: int, edit: Callable[[Connection], object], record: int | None
) -> Job:
    former: bytes | None = None
    job: Job | None = None
    is_consistent = True
    try:
        with context.database.transaction() as conn:
            if not jobs.lock(conn, id_, context.scope):
                raise UnknownJob.with_id(id_)
            edit(conn)
            job = jobs.get(conn, id_)
            assert job is not None
            if job.is_archived:
                if record is None:
                    raise _ArchivedMeanwhile
                root, run = context.archive_root, context.archive_io.run
                former = run(reader.read_bytes, root, job.key)
                run(writer.write, root, job, job_id=id_)
    except BaseException as error:
        is_restored = former is None or job is None or _restore(context, job, former, error)
        # A commit without an answer may have succeeded, also if a signal ends the worker.
        is_known = isinstance(error, Exception) and not isinstance(error, DatabaseUnavailable)
        is_consistent = is_restored and is_known
        raise
    finally:
        if record is not None and is_consistent:
            with suppress(DatabaseUnavailable), context.database.connection() as conn:
                edits.end_archive_edit(conn, record)
    return job


def _restore(context: Context, job: Job, former: bytes, error: BaseException) -> bool:
    """Write a file's former content after a failed rename or commit; False if that fails."""
    if isinstance(error, ArchiveTimeout):  # The archive's recovery writes the file again.
        return False
    try:
        root, run = context.archive_root, context.archive_io.run
        if run(reader.read_bytes, root, job.key) != former:
            run(writer.write_bytes, root, job.key, former, job_id=job.id)
    except ArchiveError:
        _log.exception("meta.json of job id %s may contain an edit that was refused", job.id)
        return False
    return True
