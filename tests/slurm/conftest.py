"""A site whose hooks and sender speak to a real service."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ccapi.embedded import PrivatePostgres
from ccapi.model.token import Role
from ccapi.repository.database import Database
from ccapi.service import tokens
from tests.processes import Service, gunicorn
from tests.slurm.site import Site, install


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
