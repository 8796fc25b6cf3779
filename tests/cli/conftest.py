"""The command as a user runs it, on the tests' database and an archive of its own."""

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from ccapi import cli
from ccapi.config import Config
from ccapi.db.pool import Database


class Outcome(NamedTuple):
    """What a command leaves behind."""

    status: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def environment(config: Config, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variables of the tests' database, which is empty, and of their archive."""
    monkeypatch.setenv("CCAPI_DATABASE_URL", config.database.url)
    monkeypatch.setenv("CCAPI_ARCHIVE_ROOT", str(config.archive.root))


@pytest.fixture
def ccapi(
    environment: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Run the command with arguments."""

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["ccapi", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        status = ended.value.code
        return Outcome(status if isinstance(status, int) else 0, *capsys.readouterr())

    return run
