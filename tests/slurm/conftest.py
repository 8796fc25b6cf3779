"""A site whose hooks and sender speak to a real service."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccapi.embedded import PrivatePostgres
from ccapi.model.token import Role
from ccapi.db.pool import Database
from ccapi.service import tokens
from tests.processes import Service, gunicorn
from tests.slurm.cluster import ordinary_user, why_not
from tests.slurm.site import Site, install

FIGURES = pytest.StashKey[list[tuple[str, str, str]]]()


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> list[tuple[str, str, str]]:
    """Take what was measured: the figure, its limit, the value."""
    return pytestconfig.stash.setdefault(FIGURES, [])


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print what was measured as a table: figure, limit, value."""
    for figure, limit, value in config.stash.get(FIGURES, []):
        terminalreporter.write_line(f"{figure:58}{limit:>12}{value:>12}")


@pytest.fixture(scope="session")
def user() -> Iterator[None]:
    """Have what a real Slurm needs, or say why there is none; SLURM_REQUIRED=1 is a must."""
    reason = why_not()
    if reason and os.environ.get("SLURM_REQUIRED", "") not in {"", "0"}:
        pytest.fail(reason, pytrace=False)
    if reason:
        pytest.skip(reason)
    with ordinary_user():
        yield


@pytest.fixture
def site(database: Database, tmp_path: Path) -> Site:
    """Install hooks and sender, with a token; nothing listens at the address."""
    place = tmp_path / "site"
    place.mkdir()
    found = install(place, tokens.create(database, "slurm", Role.WRITER))
    found.configure(CCAPI_URL="http://127.0.0.1:1/api/jobs")
    return found


@pytest.fixture(scope="module")
def running(
    postgres: PrivatePostgres, _migrated: Database, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Serve for a module's tests: starting takes longer than any of them."""
    place = tmp_path_factory.mktemp("service")
    archive = str(place / "job-archive")
    settings = {"CCAPI_DATABASE_URL": postgres.url, "CCAPI_ARCHIVE_ROOT": archive}
    with gunicorn(settings, place, workers=2) as service:
        yield service


@pytest.fixture
def service(running: Service, site: Site) -> Service:
    """Have a service at the address that the site's settings have."""
    site.configure(CCAPI_URL=running.url)
    return running
