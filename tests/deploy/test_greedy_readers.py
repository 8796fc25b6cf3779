"""Readers that are slow, silent or greedy delay no report: nginx and gunicorn as deployed."""

import http.client
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bench.deployed_site import Site, nginx, run_site
from bench.greedy_readers import SlowReaders, worst_queries
from ccapi.config import Config
from ccapi.db.pool import Database
from ccapi.model.token import Role
from ccapi.service import tokens
from tests.client import job

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(nginx() is None, reason="nginx is not installed"),
]
# A list of 6 MB: more than the sockets and nginx's memory hold.
JOBS = """
    INSERT INTO jobs (job_id, cluster, start_time, user_name, project, sub_cluster, num_nodes,
                      exclusive, monitoring_status, resources, meta_data)
    SELECT n, 'fritz', 1600000000 + n, 'u', '', 'main', 1, 1, 1, '[{"hostname": "f1"}]',
           json_build_object('jobScript', repeat('x', 1500))
    FROM generate_series(1, 3000) AS n
    """
FIRST_JOB = 1_000_000


class Connection(http.client.HTTPConnection):
    """A connection to a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=120)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def send(path: Path, token: str, method: str, address: str, body: Any = None) -> tuple[int, bytes]:
    """Send a request on a connection of its own; return the status and the body."""
    connection = Connection(path)
    data = None if body is None else json.dumps(body)
    try:
        headers = {"X-Auth-Token": token} if token else {}
        connection.request(method, f"/api/jobs{address}", data, headers)
        response = connection.getresponse()
        text = response.read()
        if response.status == 429:
            assert response.headers["Retry-After"] == "1"
            assert json.loads(text)["status"] == "Too Many Requests"
        return response.status, text
    finally:
        connection.close()


@pytest.fixture
def site(config: Config, database: Database) -> Iterator[Site]:
    with database.session() as conn:
        conn.execute(JOBS)
    settings = {
        "CCAPI_DATABASE_URL": config.database.url,
        "CCAPI_ARCHIVE_ROOT": str(config.archive.root),
    }
    with run_site(settings, workers=1, readers=2) as running:
        yield running


@pytest.fixture
def writer_token(database: Database) -> str:
    return tokens.create(database, "hooks", Role.WRITER)


@pytest.fixture
def reader_token(database: Database) -> str:
    return tokens.create(database, "dashboard", Role.READER)


@pytest.mark.parametrize("reads", [False, True], ids=["never read", "40 KB/s"])
def test_slow_readers_delay_neither_starts_nor_others(
    site: Site, writer_token: str, reader_token: str, *, reads: bool
) -> None:
    with SlowReaders(site.socket, reader_token, connections=8, reads=reads):
        for number in range(FIRST_JOB, FIRST_JOB + 20):
            started = job(jobId=number)
            assert send(site.socket, writer_token, "POST", "/start_job/", started)[0] == 201
        status, body = send(site.socket, writer_token, "GET", f"/?state=running&job-id={FIRST_JOB}")
        assert (status, json.loads(body)["items"]) == (200, 1)


def test_greedy_readers_do_not_stop_starts(
    site: Site, writer_token: str, reader_token: str
) -> None:
    with worst_queries(site.socket, reader_token, seconds=3):
        for number in range(FIRST_JOB, FIRST_JOB + 20):
            started = job(jobId=number)
            assert send(site.socket, writer_token, "POST", "/start_job/", started)[0] == 201


def test_readers_and_reports_have_different_workers(site: Site, writer_token: str) -> None:
    """The list of a job that has just started shows it, whichever worker answers."""
    for number in range(FIRST_JOB, FIRST_JOB + 5):
        assert send(site.socket, writer_token, "POST", "/start_job/", job(jobId=number))[0] == 201
        _, body = send(site.socket, writer_token, "GET", f"/?job-id={number}")
        assert json.loads(body)["items"] == 1
    login = Connection(site.socket)
    login.request("POST", "/login", "token=x", {"Sec-Fetch-Site": "same-origin"})
    assert login.getresponse().status < 500
    login.close()
    logs = {
        name: (site.directory / f"{name}.log").read_text() for name in ("ccapi", "ccapi-readers")
    }
    assert ("log_in" in logs["ccapi"], "log_in" in logs["ccapi-readers"]) == (False, True)
    assert ("start_job" in logs["ccapi"], "list_jobs" in logs["ccapi"]) == (True, False)
    assert ("start_job" in logs["ccapi-readers"], "list_jobs" in logs["ccapi-readers"]) == (
        False,
        True,
    )


def test_a_token_has_16_requests_at_a_time(
    site: Site, writer_token: str, reader_token: str
) -> None:
    with SlowReaders(site.socket, reader_token, connections=16, reads=False):
        deadline = time.monotonic() + 60
        while send(site.socket, reader_token, "GET", "/?job-id=1")[0] != 429:
            assert time.monotonic() < deadline
        assert send(site.socket, writer_token, "GET", "/?job-id=1")[0] == 200
        assert send(site.socket, reader_token, "POST", "/start_job/", job())[0] == 403


def test_requests_without_a_token_are_limited_and_not_logged(site: Site, writer_token: str) -> None:
    for token in ("", "no-token"):

        def refused(_: int, token: str = token) -> int:
            return send(site.socket, token, "POST", "/start_job/", job())[0]

        with ThreadPoolExecutor(20) as clients:
            assert set(clients.map(refused, range(400))) == {401, 429}
    for number in range(FIRST_JOB, FIRST_JOB + 5):
        assert send(site.socket, writer_token, "POST", "/start_job/", job(jobId=number))[0] == 201
    lines = (site.directory / "access.log").read_text().splitlines()
    assert sum('" 201 ' in line for line in lines) == 5
    assert not [line for line in lines if '" 401 ' in line or '" 429 ' in line]
    assert "limiting" not in (site.directory / "error.log").read_text()
