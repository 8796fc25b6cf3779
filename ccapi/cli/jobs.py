"""`ccapi jobs`: what an administrator asks about jobs."""

import sys
import time
from datetime import timedelta

import click

from ccapi.cli.settings import Settings, uses_settings
from ccapi.cli.times import Duration, utc
from ccapi.model.job import LARGEST_INTEGER
from ccapi.repository import overdue as repository
from ccapi.service import correcting


@click.group()
def jobs() -> None:
    """List what is wrong with jobs, and what was put right."""


@jobs.command()
@click.option("--cluster", help="Only jobs of this cluster.")
@click.option(
    "--grace",
    type=Duration(),
    default="10m",
    show_default=True,
    help="How long a job may take to end when its walltime is over.",
)
@uses_settings
def overdue(settings: Settings, cluster: str | None, grace: timedelta) -> None:
    """List running jobs that are past their walltime; exit with status 1 when there are any.

    Nearly always their stop was lost: `ccapi reconcile` asks Slurm.
    """
    now = int(time.time())
    with settings.registry.database.statement() as conn:
        found = repository.find(conn, now, int(grace.total_seconds()), cluster)
    if not found:
        click.echo("no running job is past its walltime")
        return
    row = "{:>10} {:>12}  {:<16} {:<20} {:>10} {:>10}".format
    click.echo(row("ID", "JOBID", "CLUSTER", "STARTED", "WALLTIME", "OVER BY"))
    for job in found:
        over = now - job.start_time - job.walltime
        lengths = (_length(job.walltime), _length(over))
        click.echo(row(job.id, job.job_id, job.cluster, utc(job.start_time), *lengths))
    sys.exit(1)


@jobs.command()
@click.argument("id_", metavar="ID", type=click.IntRange(1, LARGEST_INTEGER))
@uses_settings
def history(settings: Settings, id_: int) -> None:
    """Show how the end of the job with a database ID was corrected, by whom and when."""
    job, corrections = correcting.history(settings.registry, id_)
    click.echo(f"jobId {job.job_id} on {job.cluster}, started {utc(job.start_time)}")
    for item in corrections:
        old = _end(item.old_state, item.old_stop_time)
        new = _end(item.new_state, item.new_stop_time)
        click.echo(f"{utc(item.corrected_time.timestamp())} {item.corrected_by}: {old} -> {new}")
    click.echo(f"now {_end(job.job_state, job.stop_time)}")


def _end(state: str, stop_time: int | None) -> str:
    return state if stop_time is None else f"{state} at {utc(stop_time)}"


def _length(seconds: int) -> str:
    """Write a length of time as hours, minutes and seconds."""
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
