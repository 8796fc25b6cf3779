"""Archive stopped jobs: at once, and again after a failure."""

import logging
from collections.abc import Collection, Iterator
from dataclasses import replace

from ccapi import metrics
from ccapi.archive import writer
from ccapi.context import Context
from ccapi.errors import ArchiveError, DatabaseUnavailable
from ccapi.model.job import Job, MonitoringStatus
from ccapi.repository import jobs

_log = logging.getLogger(__name__)
_BATCH_SIZE = 500


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
            ids = jobs.list_archive_queue(conn, after_id, _BATCH_SIZE)
        for id_ in ids:
            job = archive_by_id(context, id_)
            if job is not None:
                yield job
            if context.archive_io.is_open:
                raise ArchiveError("the archive does not answer any more; run it again later")
        if len(ids) < _BATCH_SIZE:
            return
        after_id = ids[-1]


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
