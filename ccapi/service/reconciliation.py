"""The registry is brought into agreement with what a batch system says that it runs."""

import logging
import time
from collections.abc import Iterable

from ccapi import metrics
from ccapi.errors import InvalidInput
from ccapi.model.reconciliation import Differences, Snapshot
from ccapi.repository import reconciliation
from ccapi.db.pool import Connection
from ccapi.service import archive as archive_service
from ccapi.service.lifecycle import require_known_cluster
from ccapi.context import Context

_log = logging.getLogger(__name__)
# What happened this shortly before the snapshot may not be in it, or be on its way to us;
# this far may two clocks differ, too.
CLOCK_SKEW_SECONDS = 60


def compare(context: Context, snapshot: Snapshot) -> Differences:
    """Find which jobs run there only, and which here only; change nothing.

    Runs are the same within the duplicate window. What started within the last minute
    before the snapshot is passed over. Raises InvalidInput: a cluster that the settings
    do not describe, a snapshot of the future.
    """
    _check(context, snapshot)
    with context.database.transaction() as conn:
        return _compare(context, conn, snapshot)


def stop_stale(context: Context, snapshot: Snapshot, stopped_by: str) -> Differences:
    """Stop the jobs that run here only, all or none; return what was missing, and was stopped.

    Each job's history tells by whom. A job whose real stop arrives at the same time is
    stopped by one of the two. Nothing is archived yet: see `archive`. Raises InvalidInput,
    as `compare`.
    """
    _check(context, snapshot)
    with context.database.transaction() as conn:
        found = _compare(context, conn, snapshot)
        stopped = reconciliation.stop(conn, found.stale, stopped_by)
    if stopped:
        _log.info("%s: stopped %s jobs that ran here only", snapshot.cluster, len(stopped))
    ended = [run for run in found.stale if run.id in stopped]
    for run in ended:
        cluster = metrics.cluster_label(snapshot.cluster)
        metrics.child(metrics.STOPS, cluster, run.job_state).inc()
    return Differences(found.missing, ended)


def archive(context: Context, ids: Iterable[int], seconds: float) -> int:
    """Archive stopped jobs, by database id, for some time; return how many are archived then.

    Those for which there is no time wait for `ccapi archive retry`.
    """
    deadline = time.monotonic() + seconds
    archived = 0
    for id_ in ids:
        if time.monotonic() >= deadline:
            break
        job = archive_service.archive_by_id(context, id_)
        archived += job is not None and job.is_archived
    return archived


def _check(context: Context, snapshot: Snapshot) -> None:
    require_known_cluster(context, snapshot.cluster)
    if snapshot.as_of > time.time() + CLOCK_SKEW_SECONDS:
        raise InvalidInput.of("asOf", f"{snapshot.as_of} is in the future")


def _compare(context: Context, conn: Connection, snapshot: Snapshot) -> Differences:
    facts = (context.duplicate_window, snapshot.as_of - CLOCK_SKEW_SECONDS)
    return Differences(
        reconciliation.missing(conn, snapshot, *facts),
        reconciliation.stale(conn, snapshot, *facts),
    )
