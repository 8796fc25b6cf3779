"""`ccapi rollup`: sum up the jobs of past days."""

import time

import click

from ccapi.cli.settings import Settings, uses_settings
from ccapi.service import rollups


@click.command()
@uses_settings
def rollup(settings: Settings) -> None:
    """Sum up the jobs of past days, for fast statistics of long ranges.

    Statistics have the same figures with and without these sums. The first run reads all jobs;
    later ones read the new days, and those in which a job was changed or deleted. Safe at any time,
    also several at once.
    """
    number = sum(rollups.rebuild(settings.context.database, int(time.time())))
    click.echo(f"summed up {number} day{'' if number == 1 else 's'}")
