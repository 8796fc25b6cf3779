"""A job starts and stops."""

import logging

from ccapi import metrics
from ccapi.errors import AlreadyStopped, InvalidInput
from ccapi.model.job import Job, JobSelection, NewJob
from ccapi.repository import jobs
from ccapi.db.pool import Connection
from ccapi.service import archive as archiving, selection
from ccapi.context import Registry

_log = logging.getLogger(__name__)


def start(registry: Registry, job: NewJob) -> int:
    """Register a running job and return its database id, once it is committed.

    Raises InvalidInput for a cluster that the settings do not describe, DuplicateJob.
    """
    _place(registry, job)
    with registry.database.statement() as conn:
        id_ = jobs.insert(conn, job, registry.duplicate_window)
    metrics.child(metrics.STARTS, metrics.cluster_label(job.cluster)).inc()
    return id_


def _place(registry: Registry, job: NewJob) -> None:
    """Check the job's cluster and find its sub-cluster."""
    clusters = registry.clusters
    require_known_cluster(registry, job.cluster)
    unknown = clusters.unknown_hosts(job.cluster, job.hostnames)
    if unknown:
        cluster = metrics.cluster_label(job.cluster)
        metrics.child(metrics.UNKNOWN_HOSTS, cluster).inc(len(unknown))
        _log.warning("unknown hosts of cluster %s: %s", job.cluster, ", ".join(unknown[:10]))
    job.sub_cluster = job.sub_cluster or clusters.sub_cluster(job.cluster, job.hostnames)


def require_known_cluster(registry: Registry, cluster: str) -> None:
    """Refuse a cluster that the settings do not describe, if any; raises InvalidInput."""
    clusters = registry.clusters
    if clusters and not clusters.knows(cluster):
        known = ", ".join(clusters.names)
        raise InvalidInput.of("cluster", f"{cluster} is unknown; the settings have {known}")


def stop(registry: Registry, wanted: JobSelection, job_state: str, stop_time: int) -> Job:
    """Stop the running job that a selection means, archive it, and return it.

    Raises NoMatchingJob, SeveralJobsMatch, AlreadyStopped, InvalidInput.
    """
    with registry.database.transaction() as conn:
        matches = selection.find(conn, wanted)
        running = [match for match in matches if match.is_running] or matches[:1]
        match = selection.require_single(running, "running jobs")
        job = _stop(conn, match, job_state, stop_time)
    return _stopped(registry, job)


def stop_by_id(registry: Registry, id_: int, job_state: str, stop_time: int) -> Job:
    """Stop the running job with a database id, archive it, and return it.

    Raises NoMatchingJob, AlreadyStopped, InvalidInput.
    """
    with registry.database.transaction() as conn:
        job = _stop(conn, selection.find_by_id(conn, id_), job_state, stop_time)
    return _stopped(registry, job)


def _stopped(registry: Registry, job: Job) -> Job:
    metrics.child(metrics.STOPS, metrics.cluster_label(job.cluster), job.job_state).inc()
    return archiving.archive(registry, job)


def _stop(conn: Connection, match: jobs.Match, job_state: str, stop_time: int) -> Job:
    if not match.is_running:
        raise AlreadyStopped(f"already stopped: {match}")
    if stop_time < match.start_time:
        raise InvalidInput.of("stopTime", f"must not be before startTime, {match.start_time}")
    stopped = jobs.stop(conn, match.id, job_state, stop_time)
    job = jobs.get(conn, match.id)
    if job is None or not stopped:
        # Between our two statements another request stopped or deleted it.
        raise AlreadyStopped(f"already stopped: {selection.find_by_id(conn, match.id)}")
    return job
