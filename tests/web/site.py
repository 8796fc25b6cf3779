"""A service with a year of sample jobs, for the browser and the screenshots."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import time
from typing import Any
from urllib.request import Request, urlopen

from ccapi.cli import sample_data
from ccapi.db import migrations
from ccapi.db.pool import Database
from ccapi.model.token import ALL_JOBS, Role, Scope
from ccapi.repository import bulk_insert
from ccapi.service import tokens
from tests.processes import gunicorn

_BATCH_SIZE = 5000
# The nodes of the sample jobs.
CLUSTERS = [
    {
        "name": sample_data.CLUSTER,
        "sub_clusters": [
            {"name": "main", "nodes": ",".join(f"f{rack:02}[01-88]" for rack in range(1, 11))},
            {"name": "bigmem", "nodes": "m01[01-16]"},
            {"name": "gpu", "nodes": "g01[01-38],g02[01-38]"},
        ],
    },
    {"name": "fritz"},
]


@dataclass(frozen=True)
class Site:
    """A running service; `url` is its address."""

    url: str
    database: Database
    archive: Path

    def token(self, name: str, role: Role = Role.READER, scope: Scope = ALL_JOBS) -> str:
        """Create a token."""
        return tokens.create(self.database, name, role, scope=scope)

    def send(self, token: str, method: str, path: str, body: Any) -> Any:
        """Send a request to the API, below /api, and return the answer."""
        request = Request(
            f"{self.url}/api{path}",
            data=json.dumps(body).encode(),
            headers={"X-Auth-Token": token},
            method=method,
        )
        with urlopen(request, timeout=60) as response:
            return json.load(response)


def list_jobs(site: Site, token: str, query: str) -> list[dict[str, Any]]:
    """Return the jobs that the API lists."""
    request = Request(f"{site.url}/api/jobs/?{query}", headers={"X-Auth-Token": token})
    with urlopen(request, timeout=60) as response:
        jobs: list[dict[str, Any]] = json.load(response)["jobs"]
        return jobs


@contextmanager
def serve(url: str, directory: Path, jobs: int) -> Iterator[Site]:
    """Serve an empty database of a URL, with so many sample jobs, from a directory."""
    archive = directory / "job-archive"
    settings = {
        "CCAPI_DATABASE_URL": url,
        "CCAPI_ARCHIVE_ROOT": str(archive),
        "CCAPI_CLUSTERS": json.dumps(CLUSTERS),
        "CCAPI_JOBS_LIST_CACHE_SECONDS": "0",
    }
    database = Database(url)
    try:
        migrations.migrate(database)
        samples = sample_data.jobs(jobs, now=int(time()))
        with database.session() as conn:
            while batch := list(islice(samples, _BATCH_SIZE)):
                with conn.transaction():
                    bulk_insert.load(conn, batch)
            bulk_insert.analyze(conn)
        with gunicorn(settings, directory, workers=2) as service:
            yield Site(f"http://127.0.0.1:{service.port}", database, archive)
    finally:
        database.close()
