"""Whatever is mistyped in an address, and wherever it stands, nothing shows its password."""

import traceback
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from ccapi.config import load, to_toml
from ccapi.db import migrations
from ccapi.db.pool import Database
from ccapi.errors import CcapiError
from tests.cli.conftest import Command, ccapi, environment
from tests.config.support import Settings

__all__ = ["ccapi", "environment"]
SECRET = "hunter2geheim"
ADDRESSES = (
    f"postgresql://ccapi:{SECRET}@%2Fnonexistent:5432/ccapi?connect_timeout=2",
    f"postgresql:///ccapi?host=/nonexistent&password={SECRET}&user=ccapi",
    f"host=/nonexistent password={SECRET} user=ccapi dbname=ccapi",
    f"user=ccapi password='{SECRET}' host=/nonexistent",
)
CHARACTERS = "/@:?#%=&,;' \"\\[\t"
PLACES = ("url", "replica_url", "root", "level", "url_file", "content")


def mistyped(address: str) -> Iterator[str]:
    """Yield an address with each character missing, and with a wrong one before or in its place."""
    for index, right in enumerate(address):
        if not (right == ":" and address[index + 1 :].startswith(SECRET)):
            yield address[:index] + address[index + 1 :]
        for wrong in CHARACTERS:
            yield address[:index] + wrong + address[index:]
            yield address[:index] + wrong + address[index + 1 :]


def shows(text: str) -> bool:
    """Return whether a text has six characters of the secret in a row."""
    return any(SECRET[start : start + 6] in text for start in range(len(SECRET) - 5))


def output(address: str, place: str) -> str:
    """Return what the settings, and an attempt to connect, say with the address in a place."""
    if place == "content":
        Path("url").write_text(address)
    variable = {
        "url": "CCAPI_DATABASE_URL", "replica_url": "CCAPI_DATABASE_REPLICA_URL",
        "url_file": "CCAPI_DATABASE_URL_FILE", "content": "CCAPI_DATABASE_URL_FILE",
        "root": "CCAPI_ARCHIVE_ROOT", "level": "CCAPI_LOG_LEVEL",
    }[place]  # fmt: skip
    try:
        config = load(environ={variable: "url" if place == "content" else address})
        text = to_toml(config) + repr(config)
        database = Database(config.database.replica_url or config.database.url)
    except CcapiError:
        return traceback.format_exc()
    host = conninfo_to_dict(database._url).get("host") or "/"
    if place == "url" and str(host).startswith("/"):  # A name would be looked up on the network.
        try:
            migrations.require_current(database)
        except (CcapiError, psycopg.Error):
            text += traceback.format_exc()
    return text


@pytest.mark.slow
@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("address", ADDRESSES, ids=range(len(ADDRESSES)))
def test_no_output_shows_the_password(address: str, place: str) -> None:
    texts = [*mistyped(address)][:: 1 if place == "url" else 7]
    leaks = [text for text in texts if shows(output(text, place))]
    assert leaks == []


@pytest.mark.parametrize("address", ADDRESSES, ids=range(len(ADDRESSES)))
def test_no_syntax_error_shows_the_password(settings: Settings, address: str) -> None:
    for line in (f'"{address}" = 1', f'url "{address}"', f"url = {address}", f"[{address}]"):
        with pytest.raises(CcapiError) as caught:
            load(settings(f"[database]\n{line}"), {})
        assert not shows(str(caught.value))


@pytest.mark.parametrize(
    "url",
    [
        f"postgres//ccapi:{SECRET}@db/ccapi",
        f"postgresql://ccapi:{SECRET}%@db/ccapi",
        f"host=/nonexistent passwd={SECRET}",
    ],
)
def test_a_command_with_a_mistyped_url_is_one_line(
    ccapi: Command, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("CCAPI_DATABASE_URL", url)
    for command in ("check", "migrate"):
        status, out, err = ccapi(command)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert not shows(err)
