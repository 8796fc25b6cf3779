"""A client of the service, and bodies of requests."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from flask.testing import FlaskClient
from werkzeug.http import HTTP_STATUS_CODES
from werkzeug.test import TestResponse

from ccapi.db.pool import Database

START = 1_700_000_000
Result = TypeVar("Result")


def job(**overrides: Any) -> dict[str, Any]:
    """Make a start_job body of the required fields, changed by `overrides`."""
    return {
        "jobId": 123000,
        "user": "abcd100h",
        "cluster": "fritz",
        "startTime": START,
        "resources": [{"hostname": "f0101"}],
        **overrides,
    }


def full_job(**overrides: Any) -> dict[str, Any]:
    """Make a start_job body with every field that a client may report."""
    optional: dict[str, Any] = {
        "project": "abcd200",
        "subCluster": "main",
        "partition": "main",
        "arrayJobId": 123000,
        "numHwthreads": 20,
        "numAcc": 2,
        "smt": 4,
        "walltime": 86400,
        "submitTime": START - 60,
        "requestedMemory": 128000,
        "energy": 1.5,
        "energyFootprint": {"cpu": 1.25},
        "footprint": {"mem_bw": 40},
        "resources": [
            {"hostname": "f1", "hwthreads": [0], "accelerators": ["0"], "configuration": "c"}
        ],
        "metaData": {"jobName": "größe"},
        "statistics": {"flops_any": {"unit": "GF/s", "avg": 2.5, "min": 0, "max": 3}},
        "tags": [{"type": "a", "name": "b"}],
    }
    return job(**{**optional, **overrides})


def without(body: dict[str, Any], field: str) -> dict[str, Any]:
    """Return a body without a field."""
    return {key: value for key, value in body.items() if key != field}


def stop(**overrides: Any) -> dict[str, Any]:
    """Make a stop_job body for the job of `job`."""
    return {"jobId": 123000, "jobState": "completed", "stopTime": START + 3600, **overrides}


@dataclass
class Client:
    """A client that sends a token with each request, and bodies like `curl -d`."""

    http: FlaskClient
    token: str

    def send(self, method: str, path: str, body: Any = None, **kwargs: Any) -> TestResponse:
        """Send a request; a path is below /api/jobs unless it begins with /api/.

        A body that is not bytes is sent as JSON.
        """
        headers = {"X-Auth-Token": self.token, **kwargs.pop("headers", {})}
        if body is not None and not isinstance(body, bytes):
            body = self.http.application.json.dumps(body).encode()
        kwargs.setdefault("content_type", "application/x-www-form-urlencoded")
        address = path if path.startswith("/api/") else f"/api/jobs{path}"
        return self.http.open(address, method=method, data=body, headers=headers, **kwargs)

    def list(self, query: str = "") -> list[dict[str, Any]]:
        """Return the jobs of GET /jobs/ with a query string."""
        response = self.send("GET", f"/?{query}")
        assert response.status_code == 200, response.text
        jobs: list[dict[str, Any]] = response.get_json()["jobs"]
        return jobs

    def start(self, **overrides: Any) -> int:
        """Start a job and return its database id."""
        response = self.send("POST", "/start_job/", job(**overrides))
        assert response.status_code == 201, response.text
        return int(response.get_json()["id"])

    def stop(self, **overrides: Any) -> dict[str, Any]:
        """Stop a job and return it."""
        response = self.send("POST", "/stop_job/", stop(**overrides))
        assert response.status_code == 200, response.text
        stopped: dict[str, Any] = response.get_json()
        return stopped

    def twin(self) -> "Client":
        """Return another client with this one's token, for use in another thread."""
        return Client(self.http.application.test_client(), self.token)

    def read(self, id_: int) -> dict[str, Any]:
        """Return the job with a database id from the list, with its metadata."""
        jobs = self.list("with-metadata&items-per-page=1000")
        return next(job for job in jobs if job["id"] == id_)


def at_once(requests: Sequence[Callable[[], Result]]) -> list[Result]:
    """Call each function in its own thread at the same moment; return the results in order."""
    ready = threading.Barrier(len(requests))

    def send(request: Callable[[], Result]) -> Result:
        ready.wait()
        return request()

    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(send, requests))


def count(database: Database, table: str) -> int:
    """Count a table's rows."""
    with database.connection() as conn:
        row = conn.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert row is not None
    return int(row[0])


def assert_nothing_written(database: Database) -> None:
    """Check that no job and no tag is registered."""
    assert (count(database, "jobs"), count(database, "tags")) == (0, 0)


def assert_error(response: TestResponse, status: int, *words: str) -> None:
    """Check that a response is a well-formed error whose message has the words."""
    assert response.status_code == status, response.text
    assert response.content_type == "application/json"
    assert response.headers["X-Request-Id"]
    body = response.get_json()
    assert set(body) == {"status", "error"}
    assert body["status"] == HTTP_STATUS_CODES[status]
    assert body["error"]
    for word in words:
        assert word in body["error"], body["error"]
