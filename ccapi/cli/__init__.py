"""The `ccapi` command."""

import logging
import sys
from pathlib import Path

import click

from ccapi import __version__
from ccapi.cli.archive import archive
from ccapi.cli.check import check
from ccapi.cli.demo import demo
from ccapi.cli.deploy import deploy
from ccapi.cli.jobs import jobs
from ccapi.cli.reconcile import reconcile
from ccapi.cli.rollup import rollup
from ccapi.cli.settings import Settings, error_line, show_config, uses_settings
from ccapi.cli.token import token
from ccapi.db import migrations, sites
from ccapi.db.pool import Database
from ccapi.errors import CcapiError

# As grep and diff have it: 1 is for what a command looked for, such as a difference.
_ERROR = 2


@click.group()
@click.version_option(__version__, prog_name="ccapi")
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    help="Settings file; the default is $CCAPI_CONFIG, else ./config.toml if it exists.",
)
@click.pass_context
def cli(context: click.Context, path: Path | None) -> None:
    """Run the job registry of an HPC site."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    context.obj = Settings(path)


@cli.command()
@click.option(
    "--renumber",
    is_flag=True,
    help="Make a database with jobs a site: they get new database ids. Stop the service before.",
)
@uses_settings
def migrate(settings: Settings, *, renumber: bool) -> None:
    """Create or upgrade the database's schema.

    With [database] site or hub, also make the database a site of a hub, or the hub.
    """
    database = settings.config.database
    number = database.site_number
    applied = migrations.migrate(Database(database.url), number, renumber=renumber)
    for migration in applied:
        click.echo(f"applied {migration.name}")
    if number is not None:
        click.echo(f"the database is {sites.describe(number)}")
    elif not applied:
        click.echo("the database is up to date")


cli.add_command(show_config)
cli.add_command(token)
cli.add_command(archive)
cli.add_command(jobs)
cli.add_command(reconcile)
cli.add_command(rollup)
cli.add_command(check)
cli.add_command(demo)
cli.add_command(deploy)


def main() -> None:
    """Run the command; print an error that its user can fix as one line."""
    try:
        cli()
    except CcapiError as error:
        click.echo(error_line(error), err=True)
        sys.exit(_ERROR)
