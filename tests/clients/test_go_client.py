"""A client in Go, with the family's own structs: what it sends comes back to it as it was."""

import http.client
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ccapi.config import Config
from ccapi.db.pool import Database
from ccapi.model.job import FINAL_STATES
from ccapi.model.token import Role
from ccapi.service import tokens
from tests.clients.family import program
from tests.processes import Service, gunicorn

__all__ = ["program"]

pytestmark = pytest.mark.slow

NUM_JOBS = 1000
# One job of this many stays running; the others end in each final state by turns.
RUNNING = 3
POLL = "state=running&items-per-page=9999999&page=1&with-metadata=false"


@pytest.fixture
def service(config: Config, database: Database, tmp_path: Path) -> Iterator[Service]:
    """Serve with two workers."""
    settings = {
        "CCAPI_DATABASE_URL": config.database.url,
        "CCAPI_ARCHIVE_ROOT": str(config.archive.root),
    }
    with gunicorn(settings, tmp_path, workers=2) as running:
        yield running


class Feeder:
    """A client that sends what the Go program prints, and shows it what the service answers."""

    def __init__(self, service: Service, token: str, program: Path, directory: Path) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
        self._token = token
        self._program = program
        self._starts = directory / "starts.jsonl"
        self._starts.write_bytes(self._run("starts", str(NUM_JOBS)).encode())

    def starts(self) -> list[bytes]:
        """Return the bodies of the starts, byte for byte as Go marshals them."""
        return self._starts.read_bytes().splitlines()

    def send(self, method: str, path: str, body: bytes = b"", accept: str | None = None) -> Any:
        """Send a request and return the parsed answer, which must be a success."""
        return json.loads(self._send(method, path, body, accept))

    def check(self, query: str, accept: str | None) -> str:
        """Let the Go program decode a list and compare it with its starts."""
        return self._run(
            "check", str(self._starts), answer=self._send("GET", f"/?{query}", b"", accept)
        )

    def _send(self, method: str, path: str, body: bytes, accept: str | None) -> str:
        headers = {"X-AUTH-TOKEN": self._token, "Content-Type": "application/json"}
        if accept is not None:
            headers["accept"] = accept
        self._connection.request(method, f"/api/jobs{path}", body, headers)
        response = self._connection.getresponse()
        text = response.read().decode()
        assert response.status in {200, 201}, f"{body.decode()}\n{text}"
        assert response.headers["Ccapi-Ignored-Fields"] is None
        return text

    def _run(self, *arguments: str, answer: str = "") -> str:
        done = subprocess.run(
            [self._program, *arguments],
            input=answer,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def feeder(service: Service, database: Database, program: Path, tmp_path: Path) -> Feeder:
    token = tokens.create(database, "cc-slurm-adapter", Role.WRITER)
    return Feeder(service, token, program, tmp_path)


def test_every_kind_of_job_returns_to_the_family_as_it_was_sent(feeder: Feeder) -> None:
    for number, start in enumerate(feeder.starts()):
        id_ = feeder.send("POST", "/start_job/", start)["id"]
        if number % RUNNING:
            state = FINAL_STATES[number // RUNNING % len(FINAL_STATES)]
            body = {"jobState": state, "stopTime": json.loads(start)["startTime"] + number}
            feeder.send("POST", f"/stop_job/{id_}", json.dumps(body).encode())
    everything = "items-per-page=9999999&with-metadata"
    for query in (everything, f"{everything}=false"):
        printed = feeder.check(query, "application/ld+json")
        validated = re.fullmatch(rf"{NUM_JOBS} jobs, (\d+) of them validated\n", printed)
        assert validated, printed
        assert int(validated[1]) > NUM_JOBS / 3
    running = len(range(0, NUM_JOBS, RUNNING))
    assert feeder.check(POLL, "application/ld+json").startswith(f"{running} jobs, ")
    # The contract's form of a unit, a text, is not for these clients.
    with pytest.raises(AssertionError, match="decoding the list: json: cannot unmarshal string"):
        feeder.check(everything, "application/json")


@pytest.mark.parametrize(
    "accept", [None, "*/*", "application/json", "text/html", "application/ld+json"]
)
def test_running_jobs_decode_whatever_the_client_accepts(
    feeder: Feeder, accept: str | None
) -> None:
    """As feeders start them: without statistics, whose unit has two forms."""
    starts = [start for start in feeder.starts() if not json.loads(start)["statistics"]][:100]
    for start in starts:
        feeder.send("POST", "/start_job/", start)
    assert feeder.check(POLL, accept) == f"{len(starts)} jobs, 0 of them validated\n"
