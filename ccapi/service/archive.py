"""Archive stopped jobs: at once, and again after a failure."""

import logging
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from ccapi import metrics
from ccapi.archive import writer
from ccapi.context import Context
from ccapi.errors import ArchiveError, DatabaseUnavailable
from ccapi.model.job import Job, MonitoringStatus
from ccapi.repository import batch, edits, jobs

_log = logging.getLogger(__name__)
_WRITERS = 8
# Their jobs are in memory at once.
_RETRY_BATCH = 8


def archive(context: Context, job: Job) -> Job:
    """Archive a stopped job and return it with the outcome as its monitoring status.

    The stop is already committed, so a failure here is logged, counted, and left to `retry`.
    A job with monitoring status 0 is not archived. The job is archived as it is now: an edit at
    the same time is either in this file or is written to it afterwards, because the job's queue
    entry is locked. A job that was deleted since its stop is archived as it was.
    """
    if job.monitoring_status == MonitoringStatus.DISABLED or job.id is None:
        return job
    try:
        with context.database.transaction() as conn:
            entry = jobs.dequeue(conn, job.id)
            is_unchanged = entry is not None and not entry.job_changed
            current = job if is_unchanged else jobs.get(conn, job.id)
            if current is not None and entry is None:
                return current
            archived = replace(current or job, monitoring_status=MonitoringStatus.ARCHIVED)
            backup = context.archive_io.run(
                writer.write_with_backup, context.archive_root, archived, job_id=job.id
            )
            if backup:
                _log.warning("id %s: kept the former meta.json as %s", job.id, backup)
        return archived
    except (ArchiveError, DatabaseUnavailable) as error:
        metrics.ARCHIVE_FAILURES.inc()
        _log.error("archiving job %s (id %s) failed: %s", job.job_id, job.id, error)
    try:
        with context.database.transaction() as conn:
            jobs.mark_archiving_failed(conn, job.id)
    except DatabaseUnavailable:
        _log.warning("id %s stays in the queue; `ccapi archive retry` will archive it", job.id)
    return replace(job, monitoring_status=MonitoringStatus.ARCHIVING_FAILED)


def archive_all(context: Context, stopped: Sequence[Job]) -> list[Job]:
    """Archive stopped jobs as `archive` does, in one transaction, and return them in order.

    Several threads write the files, because each one waits for the disk nearly all of the time.
    """
    jobs_by_id = {job.id: job for job in stopped if job.id is not None}
    ids = [id_ for id_, job in jobs_by_id.items() if job.monitoring_status]
    try:
        with context.database.transaction() as conn:
            queued = batch.dequeue(conn, ids)
            changed = [id_ for id_ in ids if queued.get(id_, True)]
            jobs_by_id |= batch.get(conn, changed) if changed else {}
            written = _write_files(context, [jobs_by_id[id_] for id_ in queued])
            if failed := queued.keys() - written:
                batch.requeue(conn, sorted(failed))
    except DatabaseUnavailable as error:
        metrics.ARCHIVE_FAILURES.inc(len(ids))
        _log.error("archiving %s jobs failed: %s", len(ids), error)
        written, failed = set(), set(ids)
    for id_ in written | failed:
        status = MonitoringStatus.ARCHIVED if id_ in written else MonitoringStatus.ARCHIVING_FAILED
        jobs_by_id[id_] = replace(jobs_by_id[id_], monitoring_status=status)
    return [jobs_by_id[job.id] if job.id is not None else job for job in stopped]


def _write_files(context: Context, stopped: Sequence[Job]) -> set[int]:
    """Write the files of jobs, and return the ids of those whose file is complete."""

    def write(job: Job) -> str | Exception | None:
        archived = replace(job, monitoring_status=MonitoringStatus.ARCHIVED)
        try:
            return context.archive_io.run(
                writer.write_with_backup, context.archive_root, archived, job_id=job.id
            )
        except Exception as error:
            return error

    written: set[int] = set()
    with ThreadPoolExecutor(_WRITERS) as pool:
        for job, result in zip(stopped, pool.map(write, stopped), strict=True):
            if isinstance(result, Exception):
                metrics.ARCHIVE_FAILURES.inc()
                _log.error("archiving job %s (id %s) failed: %s", job.job_id, job.id, result)
                continue
            if result:
                _log.warning("id %s: kept the former meta.json as %s", job.id, result)
            written.add(job.id or 0)
    return written


def archive_by_id(context: Context, id_: int) -> Job | None:
    """Archive the stopped job with a database id; None if it was deleted."""
    with context.database.connection() as conn:
        job = jobs.get(conn, id_)
    return None if job is None else archive(context, job)


def retry(context: Context) -> Iterator[Job]:
    """Archive every stopped job that is not archived yet; yield each with its new status.

    Safe at any time, and in several processes at once. Raises ArchiveError when there is no
    archive to write to, or it does not answer any more.
    """
    context.archive_io.run(
        writer.create_if_missing, context.archive_root, context.archive_version, context.clusters
    )
    after_id = 0
    while True:
        with context.database.connection() as conn:
            ids = jobs.list_archive_queue(conn, after_id, _RETRY_BATCH)
            waiting = batch.get(conn, ids)
        yield from archive_all(context, list(waiting.values()))
        if context.archive_io.is_open:
            raise ArchiveError("the archive does not answer any more; run it again later")
        if len(ids) < _RETRY_BATCH:
            break
        after_id = ids[-1]
    yield from _finish_edits(context)


def _finish_edits(context: Context) -> Iterator[Job]:
    """Write the files that edits left behind whose worker died; yield their jobs."""
    with context.database.connection() as conn:
        records = edits.list_archive_edits(conn)
    for record, id_ in records:
        job: Job | None = None
        try:
            with context.database.transaction() as conn:
                job = jobs.get(conn, id_) if jobs.lock(conn, id_) else None
                if job is not None and job.is_archived:
                    context.archive_io.run(writer.write, context.archive_root, job, job_id=id_)
                edits.end_archive_edit(conn, record)
        except ArchiveError as error:
            _log.error("archiving job %s (id %s) failed: %s", job and job.job_id, id_, error)
            job = job and replace(job, monitoring_status=MonitoringStatus.ARCHIVING_FAILED)
        if job is not None:
            yield job


def recover(context: Context, late_job_ids: Collection[int]) -> None:
    """Archive what waits, once an archive that did not answer does so again.

    A file that was written late may be older than one of another process, so its job is
    archived again.
    """
    try:
        with context.database.connection() as conn:
            jobs.enqueue_again(conn, late_job_ids)
        number = sum(job.is_archived for job in retry(context))
        _log.info("archived %s jobs that waited", number)
    except (ArchiveError, DatabaseUnavailable) as error:
        _log.warning("the timer archives what waits: %s", error)
