"""`ccapi check`: problems of the service's environment."""

import sys
from collections.abc import Callable
from contextlib import suppress

import click

from ccapi import file_modes
from ccapi.app import build_context
from ccapi.archive import writer
from ccapi.cli.params import format_utc
from ccapi.cli.settings import Settings, error_line, uses_settings
from ccapi.context import Context
from ccapi.db import migrations, pool, sites
from ccapi.errors import CcapiError, DatabaseUnavailable, StartupError
from ccapi.repository import tokens

_EXPIRES_SOON_SECONDS = 14 * 86_400


@click.command()
@click.option(
    "--startup", is_flag=True, help="Fail only for problems that prevent the service from starting."
)
@uses_settings
def check(settings: Settings, *, startup: bool) -> None:
    """Check settings, file modes, database, migrations and archive; exit with 1 on a problem.

    Run it as the user that runs the service. systemd runs it before each start and reload.
    An unreachable database or archive does not prevent a start: the service waits for it.
    """
    config = settings.config
    context = build_context(config)
    problems: list[str] = []
    warnings = file_modes.warnings(config.secret_files, config.archive.root)
    modes = (f"ccapi: {warning}" for warning in warnings)
    prevents_start = False
    steps: list[Callable[[], None]] = [
        lambda: context.archive_io.run(problems.extend, modes),
        lambda: migrations.require_current(context.database, config.database.site_number),
        lambda: context.archive_io.run(_check_archive, context),
        lambda: _check_connections(context, config.database.pool_size),
        lambda: problems.extend(
            f"ccapi: {problem}"
            for problem in sites.problems(context.database, config.database.site_number)
        ),
    ]
    for step in steps:
        try:
            step()
        except CcapiError as error:
            problems.append(error_line(error))
            prevents_start = prevents_start or isinstance(error, StartupError)
    if context.replica is not None and (problem := context.replica.problem()):
        text = f"ccapi: [database] replica_url: {problem}; the primary answers readers"
        problems.append(text)
    for problem in problems:
        click.echo(problem, err=True)
    if prevents_start or (problems and not startup):
        sys.exit(1)
    if not prevents_start:
        _report_expiring_tokens(context)
    if not problems:
        pooler = " (behind a connection pooler)" if context.database.is_pooled() else ""
        last = "subscriptions" if context.is_hub else "archive"
        click.echo(f"ok: settings, file modes, database{pooler} and {last}")


def _report_expiring_tokens(context: Context) -> None:
    """Print which clients will stop soon; the service itself can start."""
    with suppress(DatabaseUnavailable), context.database.connection() as conn:
        for name, expires_at in tokens.list_expiring(conn, _EXPIRES_SOON_SECONDS):
            at = format_utc(expires_at.timestamp())
            click.echo(f"the token of {name} expires at {at}: run `ccapi token rotate {name}`")


def _check_connections(context: Context, pool_size: int) -> None:
    """Raise CcapiError if PostgreSQL does not allow as many connections as one worker may open."""
    with suppress(DatabaseUnavailable), context.database.session() as conn:
        limit = pool.max_connections(conn)
        if pool_size > limit and not pool.is_pooled(conn):
            raise CcapiError(
                f"[database] pool_size is {pool_size}, and PostgreSQL allows {limit} connections: "
                "lower it, or raise max_connections"
            )


def _check_archive(context: Context) -> None:
    if context.is_hub:
        return
    writer.create_if_missing(context.archive_root, context.archive_version, context.clusters)
    writer.require_writable(context.archive_root)
