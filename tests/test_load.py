"""The service under load, with real workers: no job is lost or duplicated, memory stays small."""

import http.client
import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ccapi.archive import reader
from ccapi.config import Config
from ccapi.db.pool import Database
from ccapi.model.token import Role
from ccapi.service import tokens
from tests.client import START, job, stop
from tests.processes import Service, gunicorn

pytestmark = pytest.mark.slow


@pytest.fixture
def service(config: Config, database: Database, tmp_path: Path) -> Iterator[Service]:
    """Serve with four workers."""
    settings = {
        "CCAPI_DATABASE_URL": config.database.url,
        "CCAPI_ARCHIVE_ROOT": str(config.archive.root),
    }
    with gunicorn(settings, tmp_path) as running:
        yield running


@pytest.fixture
def token(database: Database) -> str:
    return tokens.create(database, "load", Role.ADMIN)


def send(service: Service, token: str, path: str, body: dict[str, Any]) -> int:
    """Send a POST on a connection of its own, as curl does, and return the status."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    try:
        headers = {"X-Auth-Token": token}
        connection.request("POST", f"/api/jobs{path}", json.dumps(body), headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_one_of_200_identical_concurrent_starts_is_registered(service: Service, token: str) -> None:
    barrier = threading.Barrier(200)

    def start(_: int) -> int:
        barrier.wait()
        return send(service, token, "/start_job/", job())

    with ThreadPoolExecutor(200) as clients:
        statuses = Counter(clients.map(start, range(200)))
    assert statuses == {201: 1, 422: 199}


def test_1000_starts_and_stops_are_all_archived(
    service: Service, token: str, config: Config
) -> None:
    def run_job(number: int) -> tuple[int, int]:
        started = send(service, token, "/start_job/", job(jobId=number))
        return started, send(service, token, "/stop_job/", stop(jobId=number))

    with ThreadPoolExecutor(8) as clients:
        statuses = Counter(clients.map(run_job, range(1, 1001)))
    assert statuses == {(201, 200): 1000}
    assert sum(1 for _ in reader.keys(config.archive.root)) == 1000


def test_a_list_of_20000_running_jobs_needs_little_memory(
    config: Config, database: Database, token: str, tmp_path: Path
) -> None:
    fill(database, 20_000)
    settings = {
        "CCAPI_DATABASE_URL": config.database.url,
        "CCAPI_ARCHIVE_ROOT": str(config.archive.root),
    }
    with gunicorn(settings, tmp_path, workers=1) as service:
        [worker] = service.workers()
        read(service, token, 25)
        before = peak_memory(worker)
        answer = read(service, token, 9_999_999)
        growth = peak_memory(worker) - before
    assert answer["items"] == len({job["id"] for job in answer["jobs"]}) == 20_000
    assert growth < 30_000_000, f"grew by {growth / 1e6:.1f} MB"


def read(service: Service, token: str, items: int) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    path = f"/api/jobs/?state=running&items-per-page={items}&page=1&with-metadata=false"
    connection.request("GET", path, headers={"X-Auth-Token": token})
    answer: dict[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    return answer


def peak_memory(pid: int) -> int:
    """Return the peak resident memory of a process in bytes."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def fill(database: Database, jobs: int) -> None:
    """Insert running jobs with four nodes each."""
    resources = [{"hostname": f"f{n:04}", "hwthreads": list(range(72))} for n in range(1, 5)]
    with database.session() as conn:
        conn.execute(
            """
            INSERT INTO jobs (job_id, cluster, start_time, user_name, project, sub_cluster,
                              num_nodes, exclusive, monitoring_status, resources)
            SELECT n, 'fritz', %(start)s + n, 'abcd100h', '', 'main', 4, 1, 1, %(resources)s::json
            FROM generate_series(1, %(jobs)s) AS n
            """,
            {"start": START, "jobs": jobs, "resources": json.dumps(resources)},
        )
