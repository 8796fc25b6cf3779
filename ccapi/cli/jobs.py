"""`ccapi jobs`: what an administrator asks about jobs."""

import sys
import time
from datetime import timedelta

import click
from tqdm import tqdm

from ccapi.cli.params import Duration, Moment, utc
from ccapi.cli.settings import Settings, uses_settings
from ccapi.model.rules import MAX_EPOCH_SECOND, MAX_INTEGER
from ccapi.repository import metrics
from ccapi.repository.deletion import OldJobs, count_old
from ccapi.service import deletion, edits


@click.group()
def jobs() -> None:
    """List what is wrong with jobs, what was put right, and delete old ones."""


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
    with settings.context.database.connection() as conn:
        found = metrics.list_overdue_jobs(conn, now, int(grace.total_seconds()), cluster)
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
@click.argument("id_", metavar="ID", type=click.IntRange(1, MAX_INTEGER))
@uses_settings
def history(settings: Settings, id_: int) -> None:
    """Show how the end of the job with a database ID was corrected, by whom and when."""
    job, corrections = edits.history(settings.context, id_)
    click.echo(f"jobId {job.job_id} on {job.cluster}, started {utc(job.start_time)}")
    for item in corrections:
        old = _end(item.old_state, item.old_stop_time)
        new = _end(item.new_state, item.new_stop_time)
        click.echo(f"{utc(item.corrected_at.timestamp())} {item.corrected_by}: {old} -> {new}")
    click.echo(f"now {_end(job.job_state, job.stop_time)}")


@jobs.command()
@click.option("--before", type=Moment(), help="Jobs that started before this time.")
@click.option("--older-than", type=Duration(), help="Jobs that started longer ago than this.")
@click.option("--unarchived-too", is_flag=True, help="Also finished jobs the archive has not.")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@uses_settings
def prune(
    settings: Settings,
    before: int | None,
    older_than: timedelta | None,
    *,
    unarchived_too: bool,
    dry_run: bool,
) -> None:
    """Delete old finished jobs from the database; the archive keeps them.

    Jobs that run, or are not archived, stay and are counted. Works in small batches: the
    service goes on meanwhile, and what ends the command leaves what it has done.
    """
    end = _moment(before, older_than)
    context = settings.context
    with context.database.session() as conn:
        old = count_old(conn, end)
    wanted = old.archived + unarchived_too * old.unarchived
    kept = _kept(old, unarchived_too=unarchived_too)
    if dry_run:
        click.echo(f"dry run, nothing is changed: {_summary('would delete', wanted, end, kept)}")
        return
    batches = deletion.prune(context, end, with_unarchived=unarchived_too)
    deleted = 0
    with tqdm(total=wanted, desc="prune", unit=" jobs", disable=None) as bar:
        for number in batches:
            deleted += number
            bar.update(number)
    click.echo(_summary("deleted", deleted, end, kept))


def _moment(before: int | None, older_than: timedelta | None) -> int:
    """Return the time that either option means."""
    if before is not None and older_than is None and before <= MAX_EPOCH_SECOND:
        return before
    if before is None and older_than is not None:
        return int(time.time() - older_than.total_seconds())
    raise click.UsageError("say either --before TIME or --older-than DURATION")


def _kept(old: OldJobs, *, unarchived_too: bool) -> str:
    unarchived = "" if unarchived_too else f", {old.unarchived} not archived"
    return f"{old.running} running{unarchived}"


def _summary(what: str, number: int, before: int, kept: str) -> str:
    return f"{what} {number} jobs that started before {utc(before)}; kept: {kept}"


def _end(state: str, stop_time: int | None) -> str:
    return state if stop_time is None else f"{state} at {utc(stop_time)}"


def _length(seconds: int) -> str:
    """Write a length of time as hours, minutes and seconds."""
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
