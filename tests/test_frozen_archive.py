"""The archive's file system hangs, for real: it is frozen with fsfreeze while requests come."""

import http.client
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ccapi.archive import reader
from ccapi.config import Config
from ccapi.db.pool import Database
from ccapi.model.token import Role
from ccapi.service import tokens
from tests.client import job, stop
from tests.processes import Service, gunicorn

pytestmark = pytest.mark.slow
FROZEN_JOBS = range(2, 30)
TIMEOUT_SECONDS = 1


def run(*command: str) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of its own; thaw it in any case, because nothing can kill its victims."""
    if os.geteuid() or not all(map(shutil.which, ("fsfreeze", "mkfs.ext4", "mount"))):
        pytest.skip("only root can freeze a file system, with fsfreeze and mkfs.ext4")
    image, mount_point = tmp_path / "image", tmp_path / "disk"
    image.write_bytes(b"")
    os.truncate(image, 1 << 26)
    mount_point.mkdir()
    assert run("mkfs.ext4", "-q", str(image))
    if not run("mount", "-o", "loop", str(image), str(mount_point)):
        pytest.skip("this machine cannot mount a file")
    try:
        yield mount_point
    finally:
        run("fsfreeze", "-u", str(mount_point))
        run("umount", "--lazy", str(mount_point))


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def send(service: Service, token: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    try:
        method, data = ("GET", None) if body is None else ("POST", json.dumps(body))
        connection.request(method, path, data, {"X-Auth-Token": token})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


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
