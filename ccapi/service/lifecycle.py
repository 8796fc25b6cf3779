"""Start and stop jobs."""

import logging
from collections.abc import Sequence

from ccapi import metrics
from ccapi.context import Context
from ccapi.db.pool import Connection
from ccapi.errors import AlreadyStopped, InvalidInput, NoMatchingJob, SeveralJobsMatch
from ccapi.model.job import Job, JobSelection, NewJob
from ccapi.repository import jobs
from ccapi.service import archive

_log = logging.getLogger(__name__)
_LISTED = 10


def find(conn: Connection, selection: JobSelection) -> list[jobs.RunRef]:
    """Find the runs that a selection means, running ones first; one more than is ever listed.

    Raises NoMatchingJob.
    """
    matches = jobs.match(conn, selection, _LISTED + 1)
    if not matches:
        raise NoMatchingJob(f"finding job failed: no job has {selection}")
    return matches


def find_by_id(conn: Connection, id_: int) -> jobs.RunRef:
    """Find the run with a database id; raises NoMatchingJob."""
    match = jobs.get_run(conn, id_)
    if match is None:
        raise NoMatchingJob(f"finding job failed: no job has the database id {id_}")
    return match


def require_single(matches: Sequence[jobs.RunRef], what: str) -> jobs.RunRef:
    """Return the only match; raises SeveralJobsMatch, which lists them."""
    if len(matches) > 1:
        listed = "; ".join(str(match) for match in matches[:_LISTED])
        more = "; and more" if len(matches) > _LISTED else ""
        raise SeveralJobsMatch(
            f"finding job failed: several {what} match: {listed}{more}. "
            "Add cluster or startTime, or use the database id"
        )
    return matches[0]


def start(context: Context, job: NewJob) -> int:
    """Register a running job and return its database id, once it is committed.

    Raises InvalidInput for a cluster that the settings do not describe, DuplicateJob.
    """
    _place(context, job)
    with context.database.statement() as conn:
        id_ = jobs.insert(conn, job, context.duplicate_window)
    metrics.child(metrics.STARTS, metrics.cluster_label(job.cluster)).inc()
    return id_


def _place(context: Context, job: NewJob) -> None:
    """Check the job's cluster and find its sub-cluster."""
    clusters = context.clusters
    require_known_cluster(context, job.cluster)
    unknown = clusters.unknown_hosts(job.cluster, job.hostnames)
    if unknown:
        cluster = metrics.cluster_label(job.cluster)
        metrics.child(metrics.UNKNOWN_HOSTS, cluster).inc(len(unknown))
        _log.warning("unknown hosts of cluster %s: %s", job.cluster, ", ".join(unknown[:10]))
    job.sub_cluster = job.sub_cluster or clusters.sub_cluster(job.cluster, job.hostnames)


def require_known_cluster(context: Context, cluster: str) -> None:
    """Refuse a cluster that the settings do not describe, if any; raises InvalidInput."""
    clusters = context.clusters
    if clusters and not clusters.knows(cluster):
        known = ", ".join(clusters.names)
        raise InvalidInput.of("cluster", f"{cluster} is unknown; the settings have {known}")


def stop(context: Context, wanted: JobSelection, job_state: str, stop_time: int) -> Job:
    """Stop the running job that a selection means, archive it, and return it.

    Raises NoMatchingJob, SeveralJobsMatch, AlreadyStopped, InvalidInput.
    """
    with context.database.transaction() as conn:
        matches = find(conn, wanted)
        running = [match for match in matches if match.is_running] or matches[:1]
        match = require_single(running, "running jobs")
        job = _stop(conn, match, job_state, stop_time)
    return _stopped(context, job)


def stop_by_id(context: Context, id_: int, job_state: str, stop_time: int) -> Job:
    """Stop the running job with a database id, archive it, and return it.

    Raises NoMatchingJob, AlreadyStopped, InvalidInput.
    """
    with context.database.transaction() as conn:
        job = _stop(conn, find_by_id(conn, id_), job_state, stop_time)
    return _stopped(context, job)


def _stopped(context: Context, job: Job) -> Job:
    metrics.child(metrics.STOPS, metrics.cluster_label(job.cluster), job.job_state).inc()
    return archive.archive(context, job)


def _stop(conn: Connection, match: jobs.RunRef, job_state: str, stop_time: int) -> Job:
    if not match.is_running:
        raise AlreadyStopped(f"already stopped: {match}")
    if stop_time < match.start_time:
        raise InvalidInput.of("stopTime", f"must not be before startTime, {match.start_time}")
    stopped = jobs.stop(conn, match.id, job_state, stop_time)
    job = jobs.get(conn, match.id)
    if job is None or not stopped:
        # Between our two statements another request stopped or deleted it.
        raise AlreadyStopped(f"already stopped: {find_by_id(conn, match.id)}")
    return job
