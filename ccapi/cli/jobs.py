"""`ccapi jobs`: what an administrator asks about jobs."""

import sys
import time
from datetime import UTC, datetime, timedelta

import click

from ccapi.cli.duration import Duration
from ccapi.cli.settings import Settings, uses_settings
from ccapi.repository import overdue as repository


@click.group()
def jobs() -> None:
    """Ask about jobs."""


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
    row = "{:>10} {:>12}  {:<16} {:<17} {:>10} {:>10}".format
    click.echo(row("ID", "JOBID", "CLUSTER", "STARTED (UTC)", "WALLTIME", "OVER BY"))
    for job in found:
        over = now - job.start_time - job.walltime
        lengths = (_length(job.walltime), _length(over))
        click.echo(row(job.id, job.job_id, job.cluster, _minute(job.start_time), *lengths))
    sys.exit(1)


def _minute(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"


def _length(seconds: int) -> str:
    """Write a length of time as hours, minutes and seconds."""
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
