"""One pool of workers: slow clients and large queries occupy a share of it, and are cut off."""

import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ccapi.config import Config
from ccapi.db.pool import Database
from ccapi.model.token import Role
from ccapi.service import tokens
from tests.client import job
from tests.processes import Service, gunicorn

pytestmark = pytest.mark.slow
# A list of 16 MB: more than the sockets hold.
JOBS = """
    INSERT INTO jobs (job_id, cluster, start_time, user_name, project, sub_cluster, num_nodes,
                      exclusive, monitoring_status, resources, meta_data)
    SELECT n, 'fritz', 1600000000 + n, 'u', '', 'main', 1, 1, 1, '[{"hostname": "f1"}]',
           json_build_object('jobScript', repeat('x', 30000))
    FROM generate_series(1, 500) AS n
    """
FIRST_JOB = 1_000_000
LONG_LIST = "/?items-per-page=500&with-metadata=true"
YEAR = "/stats/?range=1600000000-1631000000"
METRIC = "ccapi_cut_off_responses_total "


@pytest.fixture
def service(config: Config, database: Database, tmp_path: Path) -> Iterator[Service]:
    """Serve with four workers, of which two may be occupied."""
    with database.session() as conn:
        conn.execute(JOBS)
    settings = {
        "CCAPI_DATABASE_URL": config.database.url,
        "CCAPI_ARCHIVE_ROOT": str(config.archive.root),
        "CCAPI_METRICS_ACCESS": "open",
        # Each part of the list has 5 seconds.
        "CCAPI_LIMITS_MIN_SEND_RATE": "10000000",
    }
    with gunicorn(settings, tmp_path) as running:
        yield running


@pytest.fixture
def token(database: Database) -> str:
    return tokens.create(database, "client", Role.ADMIN)


def send(
    service: Service, token: str, method: str, path: str, body: Any = None
) -> http.client.HTTPResponse:
    """Send a request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    data = None if body is None else json.dumps(body)
    connection.request(method, f"/api/jobs{path}", data, {"X-Auth-Token": token})
    return connection.getresponse()


def start(service: Service, token: str, number: int) -> int:
    response = send(service, token, "POST", "/start_job/", job(jobId=number))
    response.read()
    return response.status


def slow_list(service: Service, token: str) -> socket.socket:
    """Ask for a long list, and wait for its first bytes only."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(60)
    connection.connect(("127.0.0.1", service.port))
    head = f"GET /api/jobs{LONG_LIST} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token}\r\n\r\n"
    connection.sendall(head.encode())
    assert connection.recv(12) == b"HTTP/1.1 200"
    return connection


def test_half_of_the_workers_are_for_reports(service: Service, token: str) -> None:
    occupied = [slow_list(service, token) for _ in range(2)]
    for path in (LONG_LIST, YEAR, "/?total=true", "/?duration=1-2"):
        refused = send(service, token, "GET", path)
        assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
        assert set(json.load(refused)) == {"status", "error"}
    assert [start(service, token, FIRST_JOB + number) for number in range(10)] == [201] * 10
    assert send(service, token, "GET", "/").status == 200
    for connection in occupied:
        connection.close()
    deadline = time.monotonic() + 60
    while send(service, token, "GET", YEAR).status != 200:
        assert time.monotonic() < deadline


def test_client_that_trickles_is_cut_off(service: Service, token: str, tmp_path: Path) -> None:
    log = tmp_path / "gunicorn.log"
    deadline = time.monotonic() + 90
    with slow_list(service, token) as connection:
        while "its client read too slowly" not in log.read_text("utf-8"):
            assert time.monotonic() < deadline
            connection.recv(4000)
            time.sleep(0.1)
    assert "Traceback" not in log.read_text("utf-8")
    scrape = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    scrape.request("GET", "/metrics")
    metrics = scrape.getresponse().read().decode()
    assert f"\n{METRIC}1.0\n" in metrics


def test_slots_of_a_killed_worker_are_free(service: Service, token: str) -> None:
    occupied = [slow_list(service, token) for _ in range(2)]
    for pid in service.workers():
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while send(service, token, "GET", YEAR).status != 200:
        assert time.monotonic() < deadline
    for connection in occupied:
        connection.close()


def test_clients_that_close_late_occupy_no_worker(service: Service, token: str) -> None:
    head = f"GET /api/jobs/?items-per-page=1 HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token}\r\n"
    begin = time.monotonic()
    with ExitStack() as connections:
        for _ in range(100):
            connection = connections.enter_context(
                socket.create_connection(("127.0.0.1", service.port))
            )
            connection.settimeout(60)
            connection.sendall(f"{head}Connection: keep-alive\r\n\r\n".encode())
            assert b"".join(iter(partial(connection.recv, 65_536), b"")).startswith(b"HTTP/1.1 200")
        assert start(service, token, FIRST_JOB) == 201
    # gunicorn itself waits two seconds for each, with four workers.
    assert time.monotonic() - begin < 40


def test_answer_arrives_before_the_body_is_sent(service: Service) -> None:
    size = 9_000_000
    head = f"POST /api/jobs/start_job/ HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", service.port), timeout=60) as connection:
            connection.sendall(head.encode())
            for _ in range(90):
                connection.sendall(bytes(size // 90))
            answer = b"".join(iter(partial(connection.recv, 65_536), b""))
        assert answer.startswith(b"HTTP/1.1 4")
        assert set(json.loads(answer.partition(b"\r\n\r\n")[2])) == {"status", "error"}
