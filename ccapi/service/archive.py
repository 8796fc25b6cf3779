"""Stopped jobs go to the archive: at once, and again when that failed."""

import logging
from collections.abc import Iterator
from dataclasses import replace

from ccapi import metrics
from ccapi.archive import writer
from ccapi.errors import ArchiveError, DatabaseUnavailable
from ccapi.model.job import Job, MonitoringStatus
from ccapi.repository import jobs
from ccapi.repository.jobs import Claim
from ccapi.context import Context

_log = logging.getLogger(__name__)
_BATCH = 500


def archive(context: Context, job: Job) -> Job:
    """Write a stopped job to the archive and return it with the outcome as its status.

    The stop is committed before: whatever fails here is logged, counted, and left to
    `retry`. A job that wants no archiving (status 0) is returned as it is.
    """
    if job.monitoring_status == MonitoringStatus.DISABLED or job.id is None:
        return job
    try:
        return _write(context, job, job.id)
    except (ArchiveError, DatabaseUnavailable) as error:
        metrics.ARCHIVE_FAILURES.inc()
        _log.error("job %s (id %s) is not archived: %s", job.job_id, job.id, error)
        _note_failure(context, job.id)
        return replace(job, monitoring_status=MonitoringStatus.ARCHIVING_FAILED)


def archive_by_id(context: Context, id_: int) -> Job | None:
    """Do the same for the stopped job with a database id; None when it was deleted."""
    with context.database.statement() as conn:
        job = jobs.get(conn, id_)
    return None if job is None else archive(context, job)


def _write(context: Context, stopped: Job, id_: int) -> Job:
    """Archive the job as it is now, if it is still waiting for that, and return it.

    Its place on the work list is held meanwhile, so that a tag given at the same time is
    either in the file already or is written to it afterwards. A job that was deleted since
    it stopped is archived as it was: a deletion does not touch the archive.
    """
    with context.database.transaction() as conn:
        claim = jobs.claim_for_archiving(conn, id_)
        now = stopped if claim is Claim.AS_STOPPED else jobs.get(conn, id_)
        if now is not None and claim is Claim.NOT_WAITING:
            return now
        job = replace(now or stopped, monitoring_status=MonitoringStatus.ARCHIVED)
        kept = writer.replace(context.archive_root, job)
        if kept:
            _log.warning("id %s: the meta.json that was there is kept as %s", id_, kept)
        return job


def _note_failure(context: Context, id_: int) -> None:
    try:
        with context.database.transaction() as conn:
            jobs.mark_archiving_failed(conn, id_)
    except DatabaseUnavailable:
        _log.warning("id %s stays marked as archiving; `ccapi archive retry` finds it", id_)


def retry(context: Context) -> Iterator[Job]:
    """Archive every stopped job that is not archived yet; yield each with its new status.

    Safe at any time and several at once: a job is archived under its row's lock.
    Raises ArchiveError when there is no archive to write to.
    """
    writer.prepare(context.archive_root)
    after_id = 0
    while True:
        with context.database.statement() as conn:
            waiting = jobs.list_unarchived(conn, after_id, _BATCH)
        for id_ in waiting:
            job = archive_by_id(context, id_)
            if job is not None:
                yield job
        if len(waiting) < _BATCH:
            return
        after_id = waiting[-1]
