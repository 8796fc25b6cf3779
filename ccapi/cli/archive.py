"""`ccapi archive`: the finished jobs on disk."""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click
from tqdm import tqdm

from ccapi.cli.settings import Settings, uses_settings
from ccapi.errors import StartupError
from ccapi.service import archive as archive_service
from ccapi.service import archive_check, archive_import, archive_repair
from ccapi.service.archive_import import DONE, NOT_DONE, RepairAction

_OWN = "\0"  # --import without a directory: nobody can type this one
_OF_IMPORT = {"imported", "already there", "bad"}


@click.group()
def archive() -> None:
    """Check the archive against the database, and archive what is left over."""


@archive.command()
@uses_settings
def check(settings: Settings) -> None:
    """Compare archive and database; exit with status 1 when they do not agree.

    missing: a finished job without its meta.json. broken: a meta.json that cannot be read or
    says something else than the database. orphaned: a meta.json whose job was deleted from
    the database, or never was there.
    """
    found: Counter[str] = Counter()
    for finding in archive_check.check(settings.context):
        click.echo(f"{finding.kind:<8} {finding.path}: {finding.reason}")
        found[finding.kind] += 1
    if found:
        click.echo(", ".join(f"{count} {kind}" for kind, count in sorted(found.items())))
        sys.exit(1)
    click.echo("archive and database agree")


@archive.command()
@click.option(
    "--import",
    "source",
    is_flag=False,
    flag_value=_OWN,
    metavar="[DIRECTORY]",
    help="Register the jobs that an archive holds and the database does not: of the service's "
    "own archive, or of the one in DIRECTORY, which then gets them, too.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@uses_settings
def repair(settings: Settings, source: str | None, *, dry_run: bool) -> None:
    """Bring archive and database into agreement, and delete nothing.

    Jobs that are not archived, or whose meta.json is missing, broken or differs from the
    database, are archived again; a meta.json that is replaced is kept beside the new one.
    Empty directories are removed. Orphans are only named, unless --import adopts them; this
    also registers again what was deleted on purpose. Another program's archive is taken in
    with --import DIRECTORY: as jobs that are stopped and archived; what breaks the rules of
    start_job is named and skipped. All of this may be interrupted and run again, at any
    time. The exit status is 1 when something is left to look at.
    """
    context = settings.context
    tree = _tree(source, context.archive_root)
    steps = archive_repair.repair(context, tree, dry_run=dry_run)
    counts = _show(steps, tree)
    summary = ", ".join(f"{kind} {counts[kind]}" for kind in (*DONE, *NOT_DONE) if counts[kind])
    told = "dry run, nothing is changed: " if dry_run else ""
    click.echo(told + (summary or "nothing to repair"))
    if any(counts[kind] for kind in NOT_DONE):
        sys.exit(1)


def _tree(source: str | None, root: Path) -> Path | None:
    if source is None:
        return None
    tree = root if source == _OWN else Path(source)
    if source != _OWN and not tree.is_dir():
        raise StartupError(f"cannot import {tree}: it is no directory")
    return tree


def _show(steps: Iterator[RepairAction], tree: Path | None) -> Counter[str]:
    """Print what one may want to look at, above the progress of an import."""
    counts: Counter[str] = Counter()
    watched = tree if sys.stderr.isatty() else None
    total = archive_import.count_runs(watched) if watched else None
    with tqdm(total=total, desc="import", unit=" jobs", disable=watched is None) as bar:
        for step in steps:
            counts[step.kind] += 1
            if step.path is not None:
                bar.write(f"{step.kind} {step.path}: {step.reason}", file=sys.stdout)
            if step.kind in _OF_IMPORT:
                bar.update()
    return counts


@archive.command()
@uses_settings
def retry(settings: Settings) -> None:
    """Archive every stopped job that is not archived yet; exit with status 1 when one fails.

    Safe at any time, and several at once.
    """
    outcomes = Counter(job.is_archived for job in archive_service.retry(settings.context))
    click.echo(f"archived {outcomes[True]}, failed {outcomes[False]}")
    if outcomes[False]:
        sys.exit(1)
