"""The archive's file system hangs, for real: it is frozen with fsfreeze while requests come."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ccapi.archive import reader
from ccapi.config import Config
from ccapi.db.pool import Database
from ccapi.model.token import Role
from ccapi.service import tokens
from tests.client import job, stop
from tests.frozen_disk import disk, eventually, run, send
from tests.processes import gunicorn

__all__ = ["disk"]

pytestmark = pytest.mark.slow
FROZEN_JOBS = range(2, 30)
TIMEOUT_SECONDS = 1


def test_stops_and_starts_go_on_beside_a_frozen_archive(
    disk: Path, config: Config, database: Database, tmp_path: Path
) -> None:
    token = tokens.create(database, "frozen", Role.WRITER)
    root = disk / "job-archive"
    settings = {
        "CCAPI_DATABASE_URL": config.database.url,
        "CCAPI_ARCHIVE_ROOT": str(root),
        "CCAPI_ARCHIVE_TIMEOUT": str(TIMEOUT_SECONDS),
    }
    with gunicorn(settings, tmp_path) as service, ThreadPoolExecutor(8) as clients:
        workers = service.workers()

        def start(number: int) -> int:
            return send(service, token, "/api/jobs/start_job/", job(jobId=number))[0]

        def end(number: int) -> tuple[int, int]:
            status, answer = send(service, token, "/api/jobs/stop_job/", stop(jobId=number))
            return status, answer["monitoringStatus"]

        assert set(clients.map(start, range(1, 30))) == {201}
        assert end(1) == (200, 3)
        assert run("fsfreeze", "-f", str(disk))
        begin = time.monotonic()
        assert set(clients.map(end, FROZEN_JOBS)) == {(200, 2)}
        assert set(clients.map(start, range(30, 60))) == {201}
        # Each worker waits once. Without the limit this would take until the thaw.
        assert time.monotonic() - begin < 30
        status, answer = send(service, token, "/readyz")
        assert (status, answer["error"]) == (503, "the archive does not answer")
        assert run("fsfreeze", "-u", str(disk))
        assert eventually(lambda: len(list(reader.keys(root))) == len(FROZEN_JOBS) + 1)
        assert eventually(lambda: send(service, token, "/readyz")[0] == 200)
        assert service.workers() == workers
        jobs = send(service, token, "/api/jobs/?state=completed")[1]["jobs"]
        assert {job["monitoringStatus"] for job in jobs} == {3}
