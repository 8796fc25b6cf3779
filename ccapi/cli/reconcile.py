"""`ccapi reconcile`: the registry beside Slurm."""

import math
import sys
from dataclasses import replace
from datetime import timedelta
from time import sleep

import click

from ccapi.cli import slurm
from ccapi.cli.settings import Settings, uses_settings
from ccapi.cli.params import Duration, utc
from ccapi.model.job import FINAL_STATES, JobState
from ccapi.model.reconciliation import Differences, Snapshot
from ccapi.service import reconciliation
from ccapi.context import Context

# No token can have this name.
_STOPPED_BY = "ccapi reconcile"


@click.command()
@click.option("--cluster", required=True, help="Name of the cluster in the registry.")
@click.option("--slurm-cluster", help="Slurm's name for it, if that is another one.")
@click.option("--apply", "applied", is_flag=True, help="Stop and archive the stale jobs.")
@click.option(
    "--state",
    type=click.Choice([state.value for state in FINAL_STATES]),
    default=JobState.STOPPED.value,
    show_default=True,
    help="State for stale jobs that sacct knows nothing of.",
)
@click.option(
    "--wait",
    type=Duration(),
    default="1m",
    show_default=True,
    help="How long the stop of a job that has just ended may take to arrive.",
)
@uses_settings
def reconcile(
    settings: Settings,
    cluster: str,
    slurm_cluster: str | None,
    state: str,
    wait: timedelta,
    *,
    applied: bool,
) -> None:
    """Compare a cluster's running jobs with those that squeue shows.

    missing: runs there, and is unknown here; its start was lost. stale: runs here, and no
    more there; its stop was lost. Stale jobs are looked at again after a wait; with --apply
    they are stopped and archived: as sacct says where it knows, else with --state at the
    time of the look. When Slurm cannot be asked, nothing is done. The exit status is 1 then,
    and when there are differences that are left.
    """
    as_of, running = slurm.running(slurm_cluster or cluster)
    snapshot = Snapshot(cluster=cluster, as_of=as_of, running=running, job_state=state)
    context = settings.context
    found = reconciliation.compare(context, snapshot)
    if found.stale or found.missing:
        sleep(wait.total_seconds())
        snapshot = _with_ends(snapshot, reconciliation.compare(context, snapshot))
        found = _mend(context, snapshot) if applied else reconciliation.compare(context, snapshot)
    _report(found, snapshot, applied=applied)


def _with_ends(snapshot: Snapshot, found: Differences) -> Snapshot:
    """Add what sacct knows of the stale jobs; it does not exist everywhere."""
    if not found.stale:
        return snapshot
    try:
        return replace(snapshot, ended=slurm.ended(found.stale))
    except slurm.SlurmError as error:
        click.echo(f"without the true ends: {error}", err=True)
        return snapshot


def _mend(context: Context, snapshot: Snapshot) -> Differences:
    found = reconciliation.stop_stale(context, snapshot, _STOPPED_BY)
    reconciliation.archive(context, [run.id for run in found.stale], math.inf)
    return found


def _report(found: Differences, snapshot: Snapshot, *, applied: bool) -> None:
    for job_id, start_time in found.missing:
        click.echo(f"missing  jobId {job_id}, started {utc(start_time)}")
    told = "stopped" if applied else "stale"
    for run in found.stale:
        end = f"{run.job_state} at {utc(run.stop_time)}"
        click.echo(f"{told:<8} jobId {run.job_id}, started {utc(run.start_time)}: {end}")
    if not (found.missing or found.stale):
        click.echo(f"registry and Slurm agree on {len(snapshot.running)} running jobs")
        return
    click.echo(f"{len(found.missing)} missing, {len(found.stale)} {told}")
    if found.missing or not applied:
        sys.exit(1)
