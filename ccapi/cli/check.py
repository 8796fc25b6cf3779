"""`ccapi check`: what would keep the service from working."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import click

from ccapi import file_modes as permissions
from ccapi.app import build_context
from ccapi.archive import writer
from ccapi.cli.settings import Settings, explained, uses_settings
from ccapi.config import Config
from ccapi.db import migrations
from ccapi.errors import CcapiError, StartupError


class _Problem(NamedTuple):
    text: str
    is_fatal: bool


@click.command()
@click.option("--start", is_flag=True, help="Fail only when the service would not start.")
@uses_settings
def check(settings: Settings, *, start: bool) -> None:
    """Say what would keep the service from working; exit with status 1 when there is anything.

    Looks at settings, file modes, database, migrations and archive, as the user that the
    service runs as. A reload does this first. The service starts without a database or an
    archive that is down, and waits for it.
    """
    problems = list(_problems(settings.config))
    for problem in problems:
        click.echo(problem.text, err=True)
    if any(problem.is_fatal or not start for problem in problems):
        sys.exit(1)
    if not problems:
        click.echo("settings, database and archive are fine")


def _problems(config: Config) -> Iterator[_Problem]:
    for warning in permissions.warnings(config.secret_files, config.archive.root):
        yield _Problem(f"ccapi: {warning}", is_fatal=False)
    context = build_context(config)
    yield from _failure(lambda: migrations.require_current(context.database))
    yield from _failure(lambda: _try_archive(context.archive_root))
    if context.replica is not None and (problem := context.replica.problem()):
        text = f"ccapi: [database] replica_url: {problem}; readers are answered from the primary"
        yield _Problem(text, is_fatal=False)


def _try_archive(root: Path) -> None:
    writer.prepare(root)
    writer.require_writable(root)


def _failure(step: Callable[[], None]) -> Iterator[_Problem]:
    try:
        step()
    except CcapiError as error:
        yield _Problem(explained(error), is_fatal=isinstance(error, StartupError))
