"""`ccapi check`: what would keep the service from working."""

import sys
from collections.abc import Callable, Iterator

import click

from ccapi import permissions
from ccapi.app import build_registry
from ccapi.archive import writer
from ccapi.cli.settings import Settings, explained, uses_settings
from ccapi.config import Config
from ccapi.errors import CcapiError
from ccapi.repository import migrations


@click.command()
@uses_settings
def check(settings: Settings) -> None:
    """Say what would keep the service from working; exit with status 1 when there is anything.

    Looks at settings, file modes, database, migrations and archive, as the user that the
    service runs as. A reload does this first.
    """
    problems = list(_problems(settings.config))
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        sys.exit(1)
    click.echo("settings, database and archive are fine")


def _problems(config: Config) -> Iterator[str]:
    for warning in permissions.warnings(config.secret_files, config.archive.root):
        yield f"ccapi: {warning}"
    registry = build_registry(config)
    yield from _failure(lambda: migrations.require_current(registry.database))
    yield from _failure(lambda: writer.prepare(registry.archive_root))


def _failure(step: Callable[[], None]) -> Iterator[str]:
    try:
        step()
    except CcapiError as error:
        yield explained(error)
