"""Start and stop jobs, and find the job that a request means."""

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import orjson

from ccapi import metrics
from ccapi.context import Context
from ccapi.db.pool import Connection
from ccapi.errors import AlreadyStopped, Forbidden, InvalidInput, NoMatchingJob, SeveralJobsMatch
from ccapi.model.cluster import Clusters
from ccapi.model.job import Job, JobSelection, NewJob
from ccapi.model.token import ALL_JOBS, Scope
from ccapi.repository import edits, jobs
from ccapi.repository.jobs import RunRef
from ccapi.service import archive

_log = logging.getLogger(__name__)
# Matches that an error message lists.
_MAX_LISTED = 10
# One more, so that the message can say so.
MAX_MATCHES = _MAX_LISTED + 1
# A stop so shortly before its start is the difference of two clocks.
CLOCK_SKEW_SECONDS = 60


class End(NamedTuple):
    """How and when a job ended, and metadata to add to the job's."""

    job_state: str
    stop_time: int
    meta_data: Mapping[str, str] | None = None


def start(context: Context, job: NewJob) -> int:
    """Register a running job and return its database id, once it is committed.

    Raises InvalidInput for a cluster that the settings do not describe, DuplicateJob, and
    Forbidden for a job out of the token's scope.
    """
    prepare(context, job)
    return register(context, job)


def prepare(context: Context, job: NewJob) -> None:
    """Check a job against scope and settings, and derive its sub-cluster.

    Raises InvalidInput and Forbidden.
    """
    scope = context.scope
    if scope != ALL_JOBS and not scope.includes(job.user_name, job.project, job.cluster):
        raise Forbidden("the token is limited to other users, projects or clusters than this job's")
    if context.clusters.described:
        require_known_cluster(context, job.cluster)
        count_unknown_hosts(context.clusters, job.cluster, job.hostnames)
        job.sub_cluster = job.sub_cluster or context.clusters.sub_cluster(
            job.cluster, job.hostnames
        )


def register(context: Context, job: NewJob) -> int:
    """Register a job that `prepare` has checked; raises DuplicateJob."""
    with context.database.connection() as conn:
        id_ = jobs.insert(conn, job, context.duplicate_window)
    count_start(job)
    return id_


def count_start(job: NewJob) -> None:
    """Count a registered job in the metrics."""
    metrics.child(metrics.STARTS, metrics.cluster_label(job.cluster)).inc()


def require_known_cluster(context: Context, cluster: str) -> None:
    """Raise InvalidInput for a cluster that the settings do not describe, if they describe any."""
    if context.clusters and not context.clusters.knows(cluster):
        known = ", ".join(context.clusters.names)
        raise InvalidInput.of("cluster", f"{cluster} is unknown; the settings have {known}")


def count_unknown_hosts(clusters: Clusters, cluster: str, hostnames: Sequence[str]) -> None:
    """Count and log the hosts of a job that are not in the settings of its cluster."""
    unknown = clusters.unknown_hosts(cluster, hostnames)
    if unknown:
        metrics.child(metrics.UNKNOWN_HOSTS, metrics.cluster_label(cluster)).inc(len(unknown))
        _log.warning("unknown hosts of cluster %s: %s", cluster, ", ".join(unknown[:10]))


def stop(context: Context, selection: JobSelection, end: End) -> Job:
    """Stop the selected running job, archive it, and return it.

    Raises NoMatchingJob, SeveralJobsMatch, AlreadyStopped, InvalidInput.
    """
    with context.database.transaction() as conn:
        job = stop_run(conn, select_running(find(conn, selection, context.scope)), end)
    return _count_and_archive(context, job)


def stop_by_id(context: Context, id_: int, end: End) -> Job:
    """Stop the running job with a database id, archive it, and return it.

    Raises NoMatchingJob, AlreadyStopped, InvalidInput.
    """
    with context.database.transaction() as conn:
        job = stop_run(conn, find_by_id(conn, id_, context.scope), end)
    return _count_and_archive(context, job)


def stop_run(conn: Connection, run: RunRef, end: End) -> Job:
    """Stop a run without archiving it; raises AlreadyStopped, InvalidInput."""
    stop_time = true_stop_time(run, end)
    if end.meta_data:
        # Locked, so that no edit of the metadata at the same time is lost.
        jobs.lock(conn, run.id)
        job = jobs.get(conn, run.id)
        meta_data = orjson.loads((job and job.meta_data) or "{}") | end.meta_data
        edits.replace_meta_data(conn, run.id, meta_data)
    stopped = jobs.stop(conn, run.id, end.job_state, stop_time)
    job = jobs.get(conn, run.id)
    if job is None or not stopped:
        # Another request stopped or deleted the job between our two statements.
        raise AlreadyStopped(f"already stopped: {find_by_id(conn, run.id)}")
    return job


def true_stop_time(run: RunRef, end: End) -> int:
    """Return when a run that ends now has ended; raises AlreadyStopped, InvalidInput."""
    if not run.is_running:
        raise AlreadyStopped(f"already stopped: {run}")
    if end.stop_time < run.start_time - CLOCK_SKEW_SECONDS:
        raise InvalidInput.of("stopTime", f"must not be before startTime, {run.start_time}")
    # Two hosts report start and stop, and their clocks differ.
    return max(end.stop_time, run.start_time)


def _count_and_archive(context: Context, job: Job) -> Job:
    count_stop(job)
    return archive.archive(context, job)


def count_stop(job: Job) -> None:
    """Count a stopped job in the metrics."""
    metrics.child(metrics.STOPS, metrics.cluster_label(job.cluster), job.job_state).inc()


def find(conn: Connection, selection: JobSelection, scope: Scope) -> list[RunRef]:
    """Find the selected runs, running ones first, one more than a message ever lists.

    Raises NoMatchingJob.
    """
    runs = jobs.find(conn, selection, MAX_MATCHES, scope)
    if not runs:
        raise no_match(selection)
    return runs


def no_match(selection: JobSelection) -> NoMatchingJob:
    """Make the error of a selection without a run."""
    return NoMatchingJob(f"finding job failed: no job has {selection}")


def select_running(runs: Sequence[RunRef]) -> RunRef:
    """Return the only running one of some runs, or else the first; raises SeveralJobsMatch."""
    return require_single([run for run in runs if run.is_running] or runs[:1], "running jobs")


def find_by_id(conn: Connection, id_: int, scope: Scope = ALL_JOBS) -> RunRef:
    """Find the run with a database id; raises NoMatchingJob."""
    run = jobs.get_run(conn, id_, scope)
    if run is None:
        raise NoMatchingJob.with_id(id_)
    return run


def require_single(runs: Sequence[RunRef], noun: str) -> RunRef:
    """Return the only run; raises SeveralJobsMatch, which lists them."""
    if len(runs) > 1:
        listed = "; ".join(str(run) for run in runs[:_MAX_LISTED])
        more = "; and more" if len(runs) > _MAX_LISTED else ""
        raise SeveralJobsMatch(
            f"finding job failed: several {noun} match: {listed}{more}. "
            "Add cluster or startTime, or use the database id"
        )
    return runs[0]
