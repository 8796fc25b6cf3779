"""`ccapi reconcile`: compare the running jobs of ccapi and Slurm."""

import math
import sys
from dataclasses import replace
from datetime import timedelta
from time import sleep

import click

from ccapi.cli import slurm
from ccapi.cli.params import Duration, format_utc
from ccapi.cli.settings import Settings, uses_settings
from ccapi.model.job import FINAL_STATES, JobState
from ccapi.model.reconciliation import Differences, Snapshot
from ccapi.service import reconciliation

# Not a valid name for a token.
_STOPPED_BY = "ccapi reconcile"


@click.command()
@click.option("--cluster", required=True, help="The cluster's name in ccapi.")
@click.option("--slurm-cluster", help="The cluster's name in Slurm, if it is different.")
@click.option("--apply", "applied", is_flag=True, help="Stop stale jobs, reopen others.")
@click.option(
    "--state",
    type=click.Choice([state.value for state in FINAL_STATES]),
    default=JobState.STOPPED.value,
    show_default=True,
    help="State for stale jobs that sacct does not know.",
)
@click.option(
    "--wait",
    type=Duration(),
    default="1m",
    show_default=True,
    help="How long to wait for stops that are on their way.",
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
    """Compare a cluster's running jobs in ccapi with squeue.

    A job is missing if only Slurm runs it: its start was lost. A job is stale if it runs in
    ccapi only: its stop was lost. A job has ended too early if ccapi has its end, but Slurm runs
    it. If there are differences, the command waits and compares
    again. With --apply it then stops and archives the stale jobs, and reopens those that ended too
    early. sacct provides their ends;
    jobs that it does not know get --state at the time of the query, or at the end of their
    walltime if that is earlier. The exit status is 1 if differences remain, and 2 if Slurm
    cannot be queried; then nothing changes.
    """
    context = settings.own_context
    as_of, running, active = slurm.running_jobs(slurm_cluster or cluster)
    snapshot = Snapshot(
        cluster=cluster, as_of=as_of, running=running, active=active, job_state=state
    )
    differences = reconciliation.compare(context, snapshot)
    if any(differences):
        sleep(wait.total_seconds())
        differences = reconciliation.compare(context, snapshot)
        if differences.stale:
            try:
                snapshot = replace(snapshot, ended=slurm.ended_runs(differences.stale))
            except slurm.SlurmError as error:
                reason = f"sacct is not available, using the default end state: {error}"
                click.echo(reason, err=True)
        if applied:
            differences = reconciliation.apply(context, snapshot, _STOPPED_BY)
            reconciliation.archive_for(context, [run.id for run in differences.stale], math.inf)
        else:
            differences = reconciliation.compare(context, snapshot)
    _report(differences, snapshot, applied=applied)


def _report(differences: Differences, snapshot: Snapshot, *, applied: bool) -> None:
    """Print the differences, and exit with status 1 if any remain."""
    for job_id, start_time in differences.missing:
        click.echo(f"missing  jobId {job_id}, started {format_utc(start_time)}")
    label = "stopped" if applied else "stale"
    for run in differences.stale:
        end = f"{run.job_state} at {format_utc(run.stop_time)}"
        click.echo(f"{label:<8} jobId {run.job_id}, started {format_utc(run.start_time)}: {end}")
    early_label = "reopened" if applied else "ended too early"
    for job in differences.ended_early:
        end = f"{job.job_state} at {format_utc(job.stop_time)}"
        click.echo(f"{early_label} jobId {job.job_id}, started {format_utc(job.start_time)}: {end}")
    if not any(differences):
        click.echo(f"ccapi and Slurm agree on {len(snapshot.running)} running jobs")
        return
    early = f", {len(differences.ended_early)} {early_label}" if differences.ended_early else ""
    click.echo(f"{len(differences.missing)} missing, {len(differences.stale)} {label}{early}")
    if differences.missing or not applied:
        sys.exit(1)
