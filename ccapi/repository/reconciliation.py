"""Compare the registry with a batch system: sql/queries/reconciliation.sql.

Plan these queries with their values (prepare=False): a generic plan assumes a short list and
would scan all of a long one for each job.
"""

from collections.abc import Sequence

from psycopg.rows import class_row, scalar_row

from ccapi.db import queries
from ccapi.db.pool import Connection
from ccapi.model.reconciliation import EarlyEnd, Run, Snapshot, StaleRun

_SQL = queries.load("reconciliation")


def missing(conn: Connection, snapshot: Snapshot, window: int, started_before: int) -> list[Run]:
    """List the runs that started by `started_before` and are not in the registry."""
    parameters = {
        "cluster": snapshot.cluster,
        "job_ids": [run.job_id for run in snapshot.running],
        "start_times": [run.start_time for run in snapshot.running],
        "window": window,
        "started_before": started_before,
    }
    with conn.cursor(row_factory=class_row(Run)) as cursor:
        return cursor.execute(_SQL["missing_runs"], parameters, prepare=False).fetchall()


def stale(conn: Connection, snapshot: Snapshot, window: int, started_before: int) -> list[StaleRun]:
    """List the jobs that started by `started_before` and run in the registry only."""
    parameters = {
        "cluster": snapshot.cluster,
        "as_of": snapshot.as_of,
        "job_state": snapshot.job_state,
        "job_ids": [run.job_id for run in snapshot.running],
        "start_times": [run.start_time for run in snapshot.running],
        "ended_job_ids": [run.job_id for run in snapshot.ended],
        "ended_start_times": [run.start_time for run in snapshot.ended],
        "ended_stop_times": [run.stop_time for run in snapshot.ended],
        "ended_states": [run.job_state for run in snapshot.ended],
        "window": window,
        "started_before": started_before,
    }
    with conn.cursor(row_factory=class_row(StaleRun)) as cursor:
        return cursor.execute(_SQL["stale_runs"], parameters, prepare=False).fetchall()


def early_ends(
    conn: Connection, snapshot: Snapshot, window: int, ended_before: int
) -> list[EarlyEnd]:
    """List the active runs that ended in the registry by `ended_before`."""
    parameters = {
        "cluster": snapshot.cluster,
        "job_ids": [run.job_id for run in snapshot.active],
        "start_times": [run.start_time for run in snapshot.active],
        "window": window,
        "ended_before": ended_before,
    }
    with conn.cursor(row_factory=class_row(EarlyEnd)) as cursor:
        return cursor.execute(_SQL["early_ends"], parameters, prepare=False).fetchall()


def reopen(conn: Connection, ids: Sequence[int], reopened_by: str) -> set[int]:
    """Let finished jobs run again; return the ids of those that were not running."""
    parameters = {"ids": list(ids), "reopened_by": reopened_by}
    with conn.cursor(row_factory=scalar_row) as cursor:
        return set(cursor.execute(_SQL["reopen_runs"], parameters, prepare=False).fetchall())


def stop(conn: Connection, runs: Sequence[StaleRun], stopped_by: str) -> set[int]:
    """Stop jobs on behalf of `stopped_by`; return the ids of those that were still running."""
    parameters = {
        "stopped_by": stopped_by,
        "ids": [run.id for run in runs],
        "stop_times": [run.stop_time for run in runs],
        "job_states": [run.job_state for run in runs],
    }
    with conn.cursor(row_factory=scalar_row) as cursor:
        return set(cursor.execute(_SQL["stop_runs"], parameters, prepare=False).fetchall())
