"""`ccapi archive`: the finished jobs on disk."""

import sys
from collections import Counter

import click

from ccapi.cli.settings import Settings, uses_settings
from ccapi.service import archiving, checking


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
    for finding in checking.check(settings.registry):
        click.echo(f"{finding.kind:<8} {finding.path}: {finding.reason}")
        found[finding.kind] += 1
    if found:
        click.echo(", ".join(f"{count} {kind}" for kind, count in sorted(found.items())))
        sys.exit(1)
    click.echo("archive and database agree")


@archive.command()
@uses_settings
def retry(settings: Settings) -> None:
    """Archive every stopped job that is not archived yet; exit with status 1 when one fails.

    Safe at any time, and several at once.
    """
    outcomes = Counter(job.is_archived for job in archiving.retry(settings.registry))
    click.echo(f"archived {outcomes[True]}, failed {outcomes[False]}")
    if outcomes[False]:
        sys.exit(1)
