"""`ccapi jobs`: overdue, corrected and old jobs."""

import sys
import time
from datetime import timedelta

import click
from tqdm import tqdm

from ccapi.cli import job_queries
from ccapi.cli.job_queries import format_duration
from ccapi.cli.params import Duration, Time, format_utc
from ccapi.cli.settings import Settings, uses_settings
from ccapi.model.rules import MAX_EPOCH_SECOND, MAX_INTEGER
from ccapi.repository import jobs as job_rows
from ccapi.repository import metrics
from ccapi.repository.deletion import count_old
from ccapi.service import deletion, edits

# More than any site starts between two backups.
_SKIPPED_IDS = 1_000_000


@click.group()
def jobs() -> None:
    """List, show and count jobs; list overdue ones and corrections; delete old jobs."""


for command in (job_queries.list_jobs, job_queries.show, job_queries.stats):
    jobs.add_command(command)


@jobs.command()
@click.option("--cluster", help="Only jobs of this cluster.")
@click.option(
    "--grace",
    type=Duration(),
    default="10m",
    show_default=True,
    help="How long a job may take to end after its walltime.",
)
@uses_settings
def overdue(settings: Settings, cluster: str | None, grace: timedelta) -> None:
    """List running jobs that are past their walltime; exit with status 1 if there are any.

    Usually their stop was lost; `ccapi reconcile` compares them with Slurm.
    """
    now = int(time.time())
    with settings.context.database.connection() as conn:
        rows = metrics.list_overdue_jobs(conn, now, int(grace.total_seconds()), cluster)
    if not rows:
        click.echo("no running job is past its walltime")
        return
    line = "{:>10} {:>12}  {:<16} {:<20} {:>10} {:>10}".format
    click.echo(line("ID", "JOBID", "CLUSTER", "STARTED", "WALLTIME", "OVER BY"))
    for job in rows:
        over = now - job.start_time - job.walltime
        durations = (format_duration(job.walltime), format_duration(over))
        click.echo(line(job.id, job.job_id, job.cluster, format_utc(job.start_time), *durations))
    sys.exit(1)


@jobs.command()
@click.argument("id_", metavar="ID", type=click.IntRange(1, MAX_INTEGER))
@uses_settings
def history(settings: Settings, id_: int) -> None:
    """Show the corrections of the job with a database ID: what, by whom and when."""
    job, corrections = edits.history(settings.context, id_)
    click.echo(f"jobId {job.job_id} on {job.cluster}, started {format_utc(job.start_time)}")
    for item in corrections:
        old = _format_end(item.old_state, item.old_stop_time)
        new = _format_end(item.new_state, item.new_stop_time)
        time_ = format_utc(item.corrected_at.timestamp())
        click.echo(f"{time_} {item.corrected_by}: {old} -> {new}")
    click.echo(f"now {_format_end(job.job_state, job.stop_time)}")


@jobs.command("skip-ids")
@uses_settings
def skip_ids(settings: Settings) -> None:
    """Leave out a million database ids, after the restore of a backup.

    Jobs that started after the backup had ids which would be given out again: a hook that
    reports the end of a lost job by its id would then stop another job.
    """
    with settings.own_context.database.connection() as conn:
        last = job_rows.skip_ids(conn, _SKIPPED_IDS)
    click.echo(f"the next job gets the database id {last + 1}")


@jobs.command()
@click.option("--before", type=Time(), help="Jobs that started before this time.")
@click.option("--older-than", type=Duration(), help="Jobs that started longer ago than this.")
@click.option("--include-unarchived", is_flag=True, help="Also finished jobs not in the archive.")
@click.option("--dry-run", is_flag=True, help="Report how many jobs it would delete.")
@click.option("--yes", is_flag=True, help="Do not ask before the deletion, in a terminal.")
@uses_settings
def prune(
    settings: Settings,
    before: int | None,
    older_than: timedelta | None,
    *,
    include_unarchived: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Delete old finished jobs from the database; the archive keeps them.

    Skips and counts jobs that run or are not archived. Works in small batches beside the
    running service. You can interrupt and repeat it at any time.
    """
    if (before is None) == (older_than is None) or (before or 0) > MAX_EPOCH_SECOND:
        raise click.UsageError("use either --before TIME or --older-than DURATION")
    age = older_than.total_seconds() if older_than else 0
    end = int(time.time() - age) if before is None else before
    if end > time.time():
        raise click.UsageError(f"--before {format_utc(end)} is in the future")
    context = settings.own_context
    with context.database.session() as conn:
        old = count_old(conn, end)
    total = old.archived + include_unarchived * old.unarchived
    unarchived = "" if include_unarchived else f", {old.unarchived} not archived"
    summary = f"jobs that started before {format_utc(end)}; kept: {old.running} running{unarchived}"
    if dry_run:
        click.echo(f"dry run, nothing is changed: would delete {total} {summary}")
        return
    if total and not yes and sys.stdin.isatty():
        click.confirm(f"delete {total} {summary}?", abort=True)
    deleted = 0
    with tqdm(total=total, desc="prune", unit=" jobs", disable=None) as bar:
        for number in deletion.prune(context, end, with_unarchived=include_unarchived):
            deleted += number
            bar.update(number)
    click.echo(f"deleted {deleted} {summary}")


def _format_end(state: str, stop_time: int | None) -> str:
    return state if stop_time is None else f"{state} at {format_utc(stop_time)}"
