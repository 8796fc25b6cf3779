"""What the commands share: the settings in force, and the context built from them."""

from functools import cached_property
from pathlib import Path

import click

from ccapi.app import build_context
from ccapi.config import Config, load, to_toml
from ccapi.context import Context
from ccapi.db import migrations
from ccapi.errors import (
    ArchiveError,
    CcapiError,
    DatabaseRefuses,
    DatabaseUnavailable,
    StartupError,
)

_HINTS = {
    DatabaseRefuses: "; check role, password and database of [database] url, and the role's rights",
    DatabaseUnavailable: "; check that PostgreSQL runs, and that [database] url is right",
    ArchiveError: "; check [archive] root, and that the service's user may write there",
}


class Settings:
    """The settings of a command, loaded when it needs them."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    @cached_property
    def config(self) -> Config:
        """Load the settings; raises StartupError."""
        return load(self._path)

    @property
    def context(self) -> Context:
        """Build the context of the use cases; raises StartupError for pending migrations."""
        context = build_context(self.config)
        migrations.require_current(context.database, self.config.database.site_number)
        return context

    @property
    def own_context(self) -> Context:
        """Build the context of what changes jobs or the archive; raises StartupError on a hub."""
        if self.config.database.hub:
            raise StartupError(
                "a hub changes no jobs, and has no archive: use this command at the job's site"
            )
        return self.context


uses_settings = click.make_pass_decorator(Settings)


def error_line(error: CcapiError) -> str:
    """Return a line with the error and, where there is one, a hint at its cause."""
    hints = (hint for kind, hint in _HINTS.items() if isinstance(error, kind))
    return f"ccapi: {error}{next(hints, '')}"


@click.command("config")
@uses_settings
def show_config(settings: Settings) -> None:
    """Print the settings in force with their sources; passwords are masked."""
    click.echo(to_toml(settings.config).rstrip())
