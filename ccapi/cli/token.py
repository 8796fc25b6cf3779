"""`ccapi token`: who may talk to the service."""

from datetime import UTC, datetime, timedelta

import click

from ccapi.cli.params import Duration
from ccapi.cli.settings import Settings, uses_settings
from ccapi.model.token import Role
from ccapi.service import tokens

_expires = click.option(
    "--expires", type=Duration(), help="How long it is valid, e.g. 90d; for ever if not given."
)


@click.group()
def token() -> None:
    """Make, list, rotate and revoke the tokens of clients."""


@token.command()
@click.argument("name")
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True)
@_expires
@uses_settings
def create(settings: Settings, name: str, role: str, expires: timedelta | None) -> None:
    """Make a token for NAME and print it, once.

    reader: lists jobs. writer: also starts, stops and tags them. admin: also deletes them.
    """
    secret = tokens.create(settings.context.database, name, Role(role), expires)
    _show(secret)


@token.command()
@click.argument("name")
@_expires
@click.option(
    "--keep",
    type=Duration(),
    default="1d",
    show_default=True,
    help="How long the former token stays valid.",
)
@uses_settings
def rotate(settings: Settings, name: str, expires: timedelta | None, keep: timedelta) -> None:
    """Make a new token for NAME and print it; the former one ends soon."""
    secret = tokens.rotate(settings.context.database, name, expires, keep=keep)
    _show(secret)


@token.command()
@click.argument("name")
@uses_settings
def revoke(settings: Settings, name: str) -> None:
    """End all tokens of NAME, and return once no worker takes one any more."""
    ended = tokens.revoke(settings.context.database, name)
    click.echo(f"revoked {ended} {'token' if ended == 1 else 'tokens'} of {name}")


@token.command("list")
@uses_settings
def list_(settings: Settings) -> None:
    """List all tokens; the secrets are stored nowhere."""
    found = tokens.list_all(settings.context.database)
    now = datetime.now(UTC)
    row = "{:<24} {:<7} {:<8} {:<17} {:<17} {:<17}".format
    click.echo(row("NAME", "ROLE", "STATUS", "CREATED (UTC)", "EXPIRES", "LAST USED").rstrip())
    for item in found:
        times = (item.created_at, item.expires_at, item.last_used_at)
        line = row(item.name, item.role, item.status(now), *map(_minute, times))
        click.echo(line.rstrip())


def _minute(time: datetime | None) -> str:
    return "never" if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M}"


def _show(secret: str) -> None:
    click.echo(secret)
    click.echo("This is shown once; keep it in a file that only its user can read.", err=True)
