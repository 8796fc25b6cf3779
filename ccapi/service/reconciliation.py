"""Make the registry agree with the jobs that a batch system runs."""

import logging
import time
from collections.abc import Iterable

from ccapi import metrics
from ccapi.context import Context
from ccapi.db.pool import Connection
from ccapi.errors import Forbidden, InvalidInput
from ccapi.model.reconciliation import Differences, Snapshot
from ccapi.repository import reconciliation
from ccapi.service import archive
from ccapi.service.lifecycle import require_known_cluster

_log = logging.getLogger(__name__)
# Two clocks may differ this much, and a report of an event this recent may be on its way.
CLOCK_SKEW_SECONDS = 60


def compare(context: Context, snapshot: Snapshot) -> Differences:
    """Find the jobs that run only in the batch system, and only here; change nothing.

    Runs are the same within the duplicate window. Starts in the last minute before the
    snapshot are ignored. Raises InvalidInput for a cluster that the settings do not describe,
    and for a snapshot in the future.
    """
    _validate(context, snapshot)
    with context.database.transaction() as conn:
        return _compare(context, conn, snapshot)


def apply(context: Context, snapshot: Snapshot, applied_by: str) -> Differences:
    """Stop the jobs that run only here, and reopen those that ended too early, all or none.

    Returns what was missing, stopped and reopened. Each job's history records `applied_by`. The
    file of a reopened job in the archive stays until the job ends again. If a job's real stop
    arrives at the same time, one of the two wins. Call `archive_for` afterwards. Raises
    InvalidInput, as `compare`.
    """
    _validate(context, snapshot)
    with context.database.transaction() as conn:
        differences = _compare(context, conn, snapshot)
        stopped_ids = reconciliation.stop(conn, differences.stale, applied_by)
        early_ids = [job.id for job in differences.ended_early]
        reopened_ids = reconciliation.reopen(conn, early_ids, applied_by)
    if stopped_ids:
        _log.info("%s: stopped %s jobs that ran only here", snapshot.cluster, len(stopped_ids))
    stopped = [run for run in differences.stale if run.id in stopped_ids]
    for run in stopped:
        cluster = metrics.cluster_label(snapshot.cluster)
        metrics.child(metrics.STOPS, cluster, run.job_state).inc()
    reopened = [job for job in differences.ended_early if job.id in reopened_ids]
    return Differences(differences.missing, stopped, reopened)


def archive_for(context: Context, ids: Iterable[int], seconds: float) -> int:
    """Archive stopped jobs, by database id, for some seconds; return how many are archived.

    `ccapi archive retry` archives the others.
    """
    deadline = time.monotonic() + seconds
    archived = 0
    for id_ in ids:
        if time.monotonic() >= deadline:
            break
        job = archive.archive_by_id(context, id_)
        archived += job is not None and job.is_archived
    return archived


def _validate(context: Context, snapshot: Snapshot) -> None:
    if not context.scope.includes_all_of(snapshot.cluster):
        raise Forbidden(f"the token's limits do not include all jobs of cluster {snapshot.cluster}")
    require_known_cluster(context, snapshot.cluster)
    if snapshot.as_of > time.time() + CLOCK_SKEW_SECONDS:
        raise InvalidInput.of("asOf", f"{snapshot.as_of} is in the future")


def _compare(context: Context, conn: Connection, snapshot: Snapshot) -> Differences:
    window, started_before = context.duplicate_window, snapshot.as_of - CLOCK_SKEW_SECONDS
    return Differences(
        reconciliation.missing(conn, snapshot, window, started_before),
        reconciliation.stale(conn, snapshot, window, started_before),
        reconciliation.early_ends(conn, snapshot, window, started_before),
    )
