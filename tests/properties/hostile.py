"""`python -m tests.properties.hostile --requests N`: hostile requests, and what they left behind.

Each answer must be below 500, and an error must be JSON. Afterwards each job in the database must
follow the rules of behaviour.md, and the archive must agree with it. Status 1 if anything is wrong.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from ccapi.db import migrations
from ccapi.db.pool import Database
from ccapi.embedded.server import private_postgres
from ccapi.model.token import Role
from ccapi.service import tokens
from tests.processes import clean_environment, gunicorn
from tests.properties import body_rules
from tests.properties.hostile_client import HostileClient
from tests.properties.hostile_mixture import Mixture
from tests.properties.hostile_requests import request

_WORKERS, _CLIENTS = 2, 4
_MAX_EXAMPLES = 3
_PAGE = 500
_SETTINGS = {
    # All of the large lists and statistics are answered, and none with a 503 or 429.
    "CCAPI_LIMITS_EXPENSIVE_SHARE": "1",
    "CCAPI_LIMITS_DATABASE_SECONDS": "1000000",
    "CCAPI_LOG_LEVEL": "WARNING",
    "GUNICORN_CMD_ARGS": "--forwarder-headers=",
}


class Attack:
    """Sends requests in threads, and counts answers and mistakes by kind."""

    def __init__(self, client: HostileClient) -> None:
        self._client = client
        self._lock = threading.Lock()
        self.answers: Counter[tuple[str, str]] = Counter()
        self.mistakes: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def run(self, seed: str, requests: int) -> None:
        """Send so many requests."""
        mixture = Mixture(seed, self._client.header, _queries(self._client))
        shared = islice(mixture, requests)
        with ThreadPoolExecutor(_CLIENTS) as clients:
            for sent in [clients.submit(self._send, shared) for _ in range(_CLIENTS)]:
                sent.result()

    def _send(self, requests: Iterator[tuple[str, list[bytes]]]) -> None:
        while True:
            with self._lock:
                kind, parts = next(requests, ("", []))
            if not parts:
                return
            outcome = self._outcome(kind, parts)
            with self._lock:
                self.answers[kind, outcome] += 1

    def _outcome(self, kind: str, parts: list[bytes]) -> str:
        try:
            answer = self._client.send(parts)
            if answer is None:
                return "none"
            if kind == "batch" and answer.status == 200:
                for line in answer.body.splitlines():
                    assert json.loads(line)["status"] < 500, line
        except (AssertionError, OSError) as error:
            text = str(error)
            with self._lock:
                name = f"{kind}: {text.splitlines()[0][:100]}"
                self.mistakes[name] += 1
                if self.mistakes[name] <= _MAX_EXAMPLES:
                    self.examples.setdefault(name, []).append(text)
            return "mistake"
        return str(answer.status)


def _queries(client: HostileClient) -> dict[str, list[str]]:
    """Return the paths that only read, each with the names of its parameters."""
    answer = client.send(request(b"GET /api/openapi.json HTTP/1.1"))
    assert answer is not None
    return {
        f"/api{path.removeprefix('/api')}": [
            each["name"]
            for each in operations["get"].get("parameters", ())
            if each["in"] == "query"
        ]
        for path, operations in answer.json["paths"].items()
        if "get" in operations
    }


def broken_rules(client: HostileClient) -> Iterator[str]:
    """Yield what the jobs in the database have that no request may write."""
    cursor: str | None = ""
    while cursor is not None:
        path = f"/?items-per-page={_PAGE}&with-metadata=true&cursor={cursor}"
        answer = client.call("GET", path).json
        for job in answer["jobs"]:
            try:
                _check(job)
            except body_rules.Invalid as error:
                yield f"{error.fields}: {json.dumps(job)[:1000]}"
        cursor = answer.get("nextCursor") or None


def _check(job: dict[str, Any]) -> None:
    """Check a job as if a client reported it; raises Invalid."""
    if job["jobState"] != "running":
        stop_time = job["startTime"] + job["duration"]
        body_rules.stop_by_id({"stopTime": stop_time, "jobState": job["jobState"]})
    body_rules.job({**job, "jobState": "running"})


@contextmanager
def attacked_service() -> Iterator[tuple[HostileClient, dict[str, str]]]:
    """Run a service with an empty database; yield a client and the settings."""
    with tempfile.TemporaryDirectory(prefix="ccapi-hostile-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        service_directory = directory / "service"
        service_directory.mkdir()
        archive = service_directory / "job-archive"
        with private_postgres(directory / "postgresql", durable=False) as server:
            database = Database(server.url)
            migrations.migrate(database)
            token = tokens.create(database, "hostile", Role.ADMIN)
            database.close()
            settings = {
                "CCAPI_DATABASE_URL": server.url,
                "CCAPI_ARCHIVE_ROOT": str(archive),
                **_SETTINGS,
            }
            with gunicorn(settings, service_directory, _WORKERS) as service:
                log = service_directory / "gunicorn.log"
                yield HostileClient(service, token, archive, log, changes_bytes=True), settings


def main() -> int:
    """Attack, audit, and print a table of kinds and statuses."""
    parser = argparse.ArgumentParser(prog="python -m tests.properties.hostile")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", default=str(time.time_ns()))
    arguments = parser.parse_args()
    began = time.monotonic()
    with attacked_service() as (client, settings):
        attack = Attack(client)
        attack.run(arguments.seed, arguments.requests)
        seconds = time.monotonic() - began
        rules = list(broken_rules(client))
        command = [str(Path(sys.executable).with_name("ccapi")), "archive"]
        environment = {**clean_environment(), **settings}
        for action in ("retry", "check"):
            ended = subprocess.run(
                [*command, action], env=environment, capture_output=True, text=True, check=False
            )
            if ended.returncode != 0:
                rules.append(f"archive {action}: {ended.stdout[:2000]} {ended.stderr[:2000]}")
        client.assert_unharmed()
    for (kind, outcome), number in sorted(attack.answers.items()):
        print(f"{kind:<15} {outcome:<8} {number:>8}")
    for mistake, number in attack.mistakes.items():
        print(f"{number} times {mistake}", *attack.examples[mistake], sep="\n    ")
    for rule in rules[:20]:
        print(f"breaks a rule: {rule}")
    mistakes = attack.mistakes.total()
    print(
        f"{attack.answers.total()} requests in {seconds:.0f} s, seed {arguments.seed}: "
        f"{mistakes} mistakes, {len(rules)} broken rules"
    )
    return 1 if mistakes or rules else 0


if __name__ == "__main__":
    sys.exit(main())
