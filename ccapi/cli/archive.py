"""`ccapi archive`: check, repair, convert and import archived jobs."""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import click
from tqdm import tqdm

from ccapi.cli.params import Duration, Time, format_utc
from ccapi.cli.settings import Settings, uses_settings
from ccapi.context import Context
from ccapi.errors import StartupError
from ccapi.logs import printable
from ccapi.repository import pruned_jobs
from ccapi.service import archive as archive_service
from ccapi.service import (
    archive_check,
    archive_conversion,
    archive_export,
    archive_import,
    archive_packs,
    archive_repair,
)
from ccapi.service.archive_import import DONE, NOT_DONE
from ccapi.service.archive_packs import Move

_KINDS_OF_IMPORT = ("imported", "already there", "pruned", "bad")
_with_pruned = click.option(
    "--with-pruned", is_flag=True, help="Also jobs that `ccapi jobs prune` deleted."
)
_dry_run = click.option("--dry-run", is_flag=True, help="Report actions without taking them.")


@click.group()
def archive() -> None:
    """Check, repair and convert the archive, import another one, archive pending jobs."""


@archive.command()
@uses_settings
def check(settings: Settings) -> None:
    """Compare archive and database; exit with status 1 if they differ.

    missing: a finished job has no meta.json. broken: a meta.json cannot be read, or differs
    from the database. orphaned: the job of a meta.json is not in the database, and was not
    pruned from it.
    """
    counts: Counter[str] = Counter()
    for finding in archive_check.check(settings.own_context):
        click.echo(printable(f"{finding.kind:<8} {finding.path}: {finding.reason}"))
        counts[finding.kind] += 1
    if counts:
        click.echo(", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())))
        sys.exit(1)
    click.echo("archive and database agree")


@archive.command()
@click.option(
    "--import",
    "--import-orphans",
    "import_orphans",
    is_flag=True,
    help="Register orphaned jobs again, even deleted ones.",
)
@_with_pruned
@_dry_run
@uses_settings
def repair(settings: Settings, *, import_orphans: bool, with_pruned: bool, dry_run: bool) -> None:
    """Make archive and database agree, without deleting a job.

    Archives jobs that are not archived, or whose meta.json is missing, broken or different;
    a replaced meta.json stays beside the new one. Removes empty directories. Lists orphaned
    jobs, or registers them with --import. You can interrupt and repeat it at any
    time. The exit status is 1 if something is left to look at.
    """
    if with_pruned and not import_orphans:
        raise click.UsageError("--with-pruned needs --import")
    context = settings.own_context
    tree = context.archive_root if import_orphans else None
    _repair(context, tree, with_pruned=with_pruned, dry_run=dry_run)


@archive.command("import")
@click.argument("directory", type=click.Path(path_type=Path))
@_with_pruned
@_dry_run
@uses_settings
def import_(settings: Settings, directory: Path, *, with_pruned: bool, dry_run: bool) -> None:
    """Import the archive of another ClusterCockpit, after a repair of this one.

    Registers its jobs as stopped and archived, and writes their meta.json to this archive.
    Copies measured data, data.json.gz, along. Lists and skips jobs that break the rules of
    start_job; a bad metric alone is left out. You can interrupt and repeat it
    at any time. The exit status is 1 if something is left to look at.
    """
    if not directory.is_dir():
        raise StartupError(f"cannot import {directory}: not a directory")
    _repair(settings.own_context, directory, with_pruned=with_pruned, dry_run=dry_run)


@archive.command()
@uses_settings
def retry(settings: Settings) -> None:
    """Archive all pending jobs; exit with status 1 if one fails.

    Safe at any time, also several at once.
    """
    if settings.config.database.hub:
        click.echo("a hub has no archive")
        return
    outcomes = Counter(job.is_archived for job in archive_service.retry(settings.own_context))
    click.echo(f"archived {outcomes[True]}, failed {outcomes[False]}")
    if outcomes[False]:
        sys.exit(1)


@archive.command()
@uses_settings
def convert(settings: Settings) -> None:
    """Convert the archive to the version of the settings, [archive] version.

    Stop the service first. You can interrupt and repeat it at any time. Files that cannot be
    read are listed and stay as they are; the exit status is then 1.
    """
    context = settings.own_context
    counts: Counter[str] = Counter()
    with tqdm(desc="convert", unit=" jobs", disable=None) as bar:
        for conversion in archive_conversion.convert(context):
            counts[conversion.kind] += 1
            if conversion.reason:
                line = f"bad {conversion.path}: {conversion.reason}"
                bar.write(printable(line), file=sys.stdout)
            bar.update()
    summary = ", ".join(f"{kind} {counts[kind]}" for kind in archive_conversion.KINDS)
    click.echo(f"the archive has version {context.archive_version}: {summary}")
    if counts["bad"]:
        sys.exit(1)


@archive.command("pack")
@click.option(
    "--older-than", type=Duration(), default="90d", show_default=True, help="Age of the months."
)
@click.option("--cluster", help="Only jobs of this cluster.")
@uses_settings
def pack_(settings: Settings, older_than: timedelta, cluster: str | None) -> None:
    """Move the jobs of whole months into one file for each cluster and month.

    A file is named like fritz/2025-07.sqlite, and has the schema of cc-backend's SQLite archive.
    Each job is read back before its own file goes. Runs with measured data stay in the tree.
    Works beside the running service. You can interrupt and repeat it at any time.
    """
    before = int(time.time() - older_than.total_seconds())
    _print_moves(archive_packs.pack_months(settings.own_context, before, cluster))


@archive.command()
@click.option("--cluster", help="Only jobs of this cluster.")
@click.option(
    "--month",
    type=click.DateTime(["%Y-%m"]),
    help="Only jobs that started in this month, such as 2025-07, in UTC.",
)
@uses_settings
def unpack(settings: Settings, cluster: str | None, month: datetime | None) -> None:
    """Move the jobs of packs back into files of their own, and remove the packs.

    Works beside the running service. You can interrupt and repeat it at any time.
    """
    name = f"{month:%Y-%m}" if month else None
    _print_moves(archive_packs.unpack(settings.own_context, cluster, name))


def _print_moves(moves: Iterator[Move]) -> None:
    """Print bad files, the number of moves and, on a terminal, the progress."""
    counts: Counter[str] = Counter()
    with tqdm(unit=" jobs", disable=None) as bar:
        for move in moves:
            counts[move.kind] += 1
            if move.reason:
                line = f"{move.kind} {move.path}: {move.reason}"
                bar.write(printable(line), file=sys.stdout)
            bar.update()
    summary = ", ".join(f"{kind} {counts[kind]}" for kind in archive_packs.KINDS if counts[kind])
    click.echo(summary or "nothing to move")
    if counts["bad"]:
        sys.exit(1)


@archive.command()
@click.option(
    "--parquet",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The file to write.",
)
@click.option("--cluster", help="Only jobs of this cluster.")
@uses_settings
def export(settings: Settings, path: Path, cluster: str | None) -> None:
    """Write all archived jobs to a Parquet file, for analysts.

    Pruned and packed jobs are among them. Needs pyarrow: install ccapi[parquet]. Files that
    cannot be read are listed and left out; the exit status is then 1.
    """
    problems: list[str] = []
    number = archive_export.export_parquet(settings.own_context, path, cluster, problems.append)
    for problem in problems:
        click.echo(printable(f"bad {problem}"))
    click.echo(f"wrote {number} jobs to {path}")
    if problems:
        sys.exit(1)


@archive.command()
@click.option("--before", type=Time(), required=True, help="Jobs that started before this time.")
@uses_settings
def discard_pruned(settings: Settings, before: int) -> None:
    """Discard the records of old jobs that `ccapi jobs prune` deleted.

    `ccapi archive check` then does not miss their files, so that you can remove old files from
    the archive, too. A file that is still there becomes an orphan.
    """
    with settings.own_context.database.session() as conn:
        number = pruned_jobs.discard_before(conn, before)
    click.echo(
        f"discarded the records of {number} pruned jobs that started before {format_utc(before)}"
    )


def _repair(context: Context, source: Path | None, *, with_pruned: bool, dry_run: bool) -> None:
    """Repair, import from `source`, print the actions and, on a terminal, the progress."""
    counts: Counter[str] = Counter()
    progress = source if sys.stderr.isatty() else None
    total = archive_import.count_runs(progress) if progress else None
    with tqdm(total=total, desc="import", unit=" jobs", disable=progress is None) as bar:
        for action in archive_repair.repair(
            context, source, with_pruned=with_pruned, dry_run=dry_run
        ):
            counts[action.kind] += 1
            if action.path is not None:
                line = f"{action.kind} {action.path}: {action.reason}"
                bar.write(printable(line), file=sys.stdout)
            if action.kind in _KINDS_OF_IMPORT:
                bar.update()
    summary = ", ".join(f"{kind} {counts[kind]}" for kind in (*DONE, *NOT_DONE) if counts[kind])
    prefix = "dry run, nothing is changed: " if dry_run else ""
    click.echo(prefix + (summary or "nothing to repair"))
    if any(counts[kind] for kind in NOT_DONE):
        sys.exit(1)
