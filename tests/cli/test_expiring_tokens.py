"""A token that is about to expire is announced, before its client stops."""

from datetime import timedelta

import pytest
from flask import Flask

from ccapi.config import Config
from ccapi.db.pool import Database
from ccapi.model.token import Role
from ccapi.service import tokens
from tests.cli.conftest import Command
from tests.client import Client
from tests.conftest import serve


@pytest.fixture
def app(config: Config, database: Database) -> Flask:
    """Build an app that has no results of probes yet."""
    return serve(config, database)


def create(database: Database, name: str, days: int | None, *, is_used: bool = True) -> None:
    lifetime = None if days is None else timedelta(days=days)
    secret = tokens.create(database, name, Role.READER, lifetime)
    if is_used:
        assert tokens.authenticate(database, secret)


def test_check_names_tokens_that_expire_soon(ccapi: Command, database: Database) -> None:
    create(database, "soon", 13)
    create(database, "later", 90)
    create(database, "forever", None)
    create(database, "unused", 1, is_used=False)
    create(database, "rotated", 1)
    tokens.rotate(database, "rotated", timedelta(days=90), grace=timedelta(days=1))
    status, out, err = ccapi("check")
    line, ok = out.splitlines()
    assert (status, err) == (0, "")
    assert line.startswith("the token of soon expires at 20")
    assert line.endswith("Z: run `ccapi token rotate soon`")
    assert ok.startswith("ok: ")


@pytest.mark.parametrize(("days", "expected"), [(None, None), (10, 10 * 86_400)])
def test_a_metric_has_the_time_until_then(
    reader: Client, database: Database, days: int | None, expected: int | None
) -> None:
    create(database, "client", days)
    headers = {"X-Auth-Token": reader.token}
    text = reader.http.get("/metrics", headers=headers).text
    [line] = [line for line in text.splitlines() if line.startswith("ccapi_token_expiry_seconds")]
    seconds = float(line.split()[1])
    assert seconds == float("inf") if expected is None else expected - 600 < seconds <= expected
