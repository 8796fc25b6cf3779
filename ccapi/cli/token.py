"""`ccapi token`: the tokens of clients."""

from datetime import UTC, datetime, timedelta

import click

from ccapi.cli.params import Duration
from ccapi.cli.settings import Settings, uses_settings
from ccapi.model.token import Role, Scope
from ccapi.service import lifecycle, tokens

_expires = click.option(
    "--expires", type=Duration(), help="How long the token is valid, e.g. 90d; default: forever."
)


@click.group()
def token() -> None:
    """Create, list, rotate and revoke the tokens of clients."""


@token.command()
@click.argument("name")
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True)
@click.option("--user", "users", multiple=True, help="Only jobs of this user; repeatable.")
@click.option("--project", "projects", multiple=True, help="Only jobs of this project; repeatable.")
@click.option("--cluster", "clusters", multiple=True, help="Only jobs of this cluster; repeatable.")
@click.option("--without-metadata", is_flag=True, help="No metadata, which has job scripts.")
@_expires
@uses_settings
def create(
    settings: Settings,
    name: str,
    *,
    role: str,
    users: tuple[str, ...],
    projects: tuple[str, ...],
    clusters: tuple[str, ...],
    without_metadata: bool,
    expires: timedelta | None,
) -> None:
    """Create a token for NAME and print its secret once.

    A reader lists jobs. A writer also starts, stops, tags and edits them, and reports nodes. An
    admin may do everything.
    With --user, --project and --cluster, other jobs do not exist for the token.
    """
    scope = Scope(
        users or None, projects or None, clusters or None, sees_metadata=not without_metadata
    )
    for cluster in clusters:
        lifecycle.require_known_cluster(settings.context, cluster)
    _print_secret(tokens.create(settings.context.database, name, Role(role), expires, scope))


@token.command()
@click.argument("name")
@_expires
@click.option(
    "--grace",
    type=Duration(),
    default="1d",
    show_default=True,
    help="How long the previous token stays valid.",
)
@uses_settings
def rotate(settings: Settings, name: str, expires: timedelta | None, grace: timedelta) -> None:
    """Create a new token for NAME and print its secret once; the previous one expires soon."""
    _print_secret(tokens.rotate(settings.context.database, name, expires, grace=grace))


@token.command()
@click.argument("name")
@uses_settings
def revoke(settings: Settings, name: str) -> None:
    """Revoke all tokens of NAME; return when no worker accepts them any more."""
    number = tokens.revoke(settings.context.database, name)
    click.echo(f"revoked {number} {'token' if number == 1 else 'tokens'} of {name}")


@token.command("list")
@uses_settings
def list_(settings: Settings) -> None:
    """List all tokens, without their secrets, which ccapi does not store."""
    rows = tokens.list_all(settings.context.database)
    now = datetime.now(UTC)
    line = "{:<24} {:<7} {:<8} {:<17} {:<17} {:<17} {}".format
    titles = ("NAME", "ROLE", "STATUS", "CREATED (UTC)", "EXPIRES", "LAST USED", "ONLY")
    click.echo(line(*titles))
    for item in rows:
        times = [
            f"{time.astimezone(UTC):%Y-%m-%d %H:%M}" if time else "never"
            for time in (item.created_at, item.expires_at, item.last_used_at)
        ]
        limits = [f"user={user}" for user in item.users or ()]
        limits += [f"project={project}" for project in item.projects or ()]
        limits += [f"cluster={cluster}" for cluster in item.clusters or ()]
        limits += [] if item.sees_metadata else ["without-metadata"]
        click.echo(line(item.name, item.role, item.status(now), *times, " ".join(limits)).rstrip())


def _print_secret(secret: str) -> None:
    click.echo(secret)
    click.echo("This is shown once; store it in a file that only its user can read.", err=True)
