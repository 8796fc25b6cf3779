"""An installation of hooks and sender that reports to a real service."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccapi.db.pool import Database
from ccapi.embedded import PrivatePostgres
from ccapi.model.token import Role
from ccapi.service import tokens
from tests.processes import Service, free_port, gunicorn
from tests.slurm import curl_site as curl
from tests.slurm.cluster import install_packages, temporary_user
from tests.slurm.site import Site, install

Measurements = list[tuple[str, str, str]]
MEASUREMENTS = pytest.StashKey[Measurements]()


@pytest.fixture(scope="session")
def measurements(pytestconfig: pytest.Config) -> Measurements:
    """Collect rows for the summary: name, limit, value."""
    return pytestconfig.stash.setdefault(MEASUREMENTS, [])


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the measurements as a table."""
    for name, limit, value in config.stash.get(MEASUREMENTS, []):
        terminalreporter.write_line(f"{name:58}{limit:>12}{value:>12}")


@pytest.fixture(scope="session")
def user() -> Iterator[None]:
    """Provide Slurm and a user; without them, skip the test, or fail with SLURM_REQUIRED=1."""
    reason = install_packages()
    if reason and os.environ.get("SLURM_REQUIRED", "") not in {"", "0"}:
        pytest.fail(reason, pytrace=False)
    if reason:
        pytest.skip(reason)
    with temporary_user():
        yield


@pytest.fixture
def site(database: Database, tmp_path: Path) -> Site:
    """Install hooks and sender with a token, and an address where nothing listens."""
    directory = tmp_path / "site"
    directory.mkdir()
    site = install(directory, tokens.create(database, "slurm", Role.WRITER))
    site.configure(CCAPI_URL="http://127.0.0.1:1/api/jobs")
    return site


@pytest.fixture(scope="module")
def running(
    postgres: PrivatePostgres, _migrated: Database, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Run a service for all tests of a module, because it starts slowly."""
    directory = tmp_path_factory.mktemp("service")
    archive = str(directory / "job-archive")
    settings = {"CCAPI_DATABASE_URL": postgres.url, "CCAPI_ARCHIVE_ROOT": archive}
    with gunicorn(settings, directory, workers=2) as service:
        yield service


@pytest.fixture
def service(running: Service, site: Site) -> Service:
    """Point the site's settings at a running service."""
    site.configure(CCAPI_URL=running.url)
    return running


@pytest.fixture(params=curl.SHELLS, ids=lambda shell: Path(shell).name)
def curl_site(request: pytest.FixtureRequest, database: Database, tmp_path: Path) -> curl.CurlSite:
    """Install the curl hooks for a shell; ccapi is down."""
    directory = tmp_path / "curl"
    directory.mkdir()
    site = curl.install(directory, tokens.create(database, "curl", Role.WRITER), request.param)
    site.configure(CCAPI_URL=f"http://127.0.0.1:{free_port()}/api/jobs")
    return site


@pytest.fixture
def connected_curl(curl_site: curl.CurlSite, service: Service) -> curl.CurlSite:
    """Provide hooks that reach ccapi."""
    curl_site.configure(CCAPI_URL=service.url)
    return curl_site
