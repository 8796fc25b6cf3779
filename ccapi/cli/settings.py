"""What the commands share: the settings in force, and what is built from them."""

from functools import cached_property
from pathlib import Path

import click

from ccapi.app import build_context
from ccapi.config import Config, load, to_toml
from ccapi.context import Context
from ccapi.db import migrations
from ccapi.errors import ArchiveError, CcapiError, DatabaseUnavailable

_HINTS = {
    DatabaseUnavailable: "; see that PostgreSQL runs, and that [database] url leads to it",
    ArchiveError: "; see that [archive] root leads to it, and that the service's user may write",
}


class Settings:
    """The settings that the command line names, read when a command needs them."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    @cached_property
    def config(self) -> Config:
        """Read the settings; raises StartupError."""
        return load(self._path)

    @property
    def context(self) -> Context:
        """Build what the use cases work on; raises StartupError when migrations are pending."""
        context = build_context(self.config)
        migrations.require_current(context.database)
        return context


def explained(error: CcapiError) -> str:
    """Say what went wrong in one line, and what to do."""
    hints = (hint for kind, hint in _HINTS.items() if isinstance(error, kind))
    return f"ccapi: {error}{next(hints, '')}"


uses_settings = click.make_pass_decorator(Settings)


@click.command("config")
@uses_settings
def show_config(settings: Settings) -> None:
    """Print the settings in force, secrets masked."""
    click.echo(to_toml(settings.config).rstrip())
