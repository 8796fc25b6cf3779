"""A real streaming replica answers readers, and is promoted when the primary dies."""

import itertools
import json
import re
import signal
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pytest

from ccapi.db import migrations
from ccapi.db.pool import Database
from ccapi.model.token import Role
from ccapi.service import tokens
from tests.client import job, stop
from tests.processes import Service, gunicorn
from tests.replica.pair import Pair, pair, wait_until

_MAX_LAG = 2
_THREADS = 8


class Site(NamedTuple):
    """A service on a primary and a replica, with a token of each role."""

    service: Service
    servers: Pair
    tokens: dict[Role, str]
    log: Path

    def send(self, role: Role, path: str, body: Any = None) -> tuple[int, Any]:
        """Send a request and return status and body; status 0 means that there was no answer."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"X-Auth-Token": self.tokens[role]}
        request = urllib.request.Request(f"{self.service.url}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except OSError:
            return 0, None

    def count_jobs(self, role: Role) -> int:
        """Return the number of jobs in a list."""
        status, answer = self.send(role, "/")
        assert status == 200, answer
        return len(answer["jobs"])

    def reads(self, database: str) -> float:
        """Return how many queries of readers a database has answered."""
        url = self.service.url.removesuffix("/api/jobs") + "/metrics"
        request = urllib.request.Request(url, headers={"X-Auth-Token": self.tokens[Role.READER]})
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read().decode()
        match = re.search(rf'^ccapi_reads_total{{database="{database}"}} (.*)$', text, re.M)
        return float(match[1]) if match else 0


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with pair() as servers:
        database = Database(servers.primary.url)
        migrations.migrate(database)
        secrets = {role: tokens.create(database, role.value, role) for role in Role}
        database.close()
        settings = {
            "CCAPI_DATABASE_URL": servers.url,
            "CCAPI_DATABASE_REPLICA_URL": servers.replica.url,
            "CCAPI_DATABASE_REPLICA_MAX_LAG": str(_MAX_LAG),
            "CCAPI_JOBS_LIST_CACHE_SECONDS": "0",
            "CCAPI_ARCHIVE_ROOT": str(tmp_path / "job-archive"),
        }
        with gunicorn(settings, tmp_path, workers=2) as service:
            yield Site(service, servers, secrets, tmp_path / "gunicorn.log")


def start(site: Site, job_id: int) -> None:
    assert site.send(Role.WRITER, "/start_job/", job(jobId=job_id))[0] == 201


def await_reads_from_replica(site: Site, before: float, jobs: int) -> None:
    """Wait until readers get lists from the replica again."""
    wait_until(
        lambda: site.count_jobs(Role.READER) == jobs and site.reads("replica") > before,
        "readers do not return to the replica",
    )


def test_the_replica_answers_readers_until_it_is_late_or_dead(site: Site) -> None:
    replica = site.servers.replica
    start(site, 1)
    site.servers.await_replay()
    assert site.count_jobs(Role.READER) == 1
    replica.run("SELECT pg_wal_replay_pause()")
    start(site, 2)
    assert [site.count_jobs(role) for role in (Role.WRITER, Role.ADMIN, Role.READER)] == [2, 2, 1]
    assert site.reads("replica") == 2
    wait_until(lambda: site.count_jobs(Role.READER) == 2, "readers get old lists", _MAX_LAG + 3)
    assert "lags by more than 2 seconds" in site.log.read_text("utf-8")
    replica.run("SELECT pg_wal_replay_resume()")
    before = site.reads("replica")
    await_reads_from_replica(site, before, jobs=2)
    replica.process.kill()
    replica.process.wait()
    for _ in range(20):
        assert site.count_jobs(Role.READER) == 2
    start(site, 3)
    assert site.count_jobs(Role.READER) == 3


def test_a_frozen_replica_causes_no_errors_for_readers(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its connections stay open, but do not answer."""
    start(site, 1)
    site.servers.await_replay()
    assert site.count_jobs(Role.READER) == 1
    site.servers.replica.signal(signal.SIGSTOP)
    start(site, 2)
    seconds: list[float] = []
    wait_until(
        lambda: timed(lambda: site.count_jobs(Role.READER), seconds) == 2,
        "no answer comes from the primary",
    )
    end = time.monotonic() + 7  # longer than the first pause
    while time.monotonic() < end:
        assert timed(lambda: site.count_jobs(Role.READER), seconds) == 2
    before = site.reads("replica")
    site.servers.replica.signal(signal.SIGCONT)
    await_reads_from_replica(site, before, jobs=2)
    with capsys.disabled():
        print(
            f"\nreplica frozen: {len(seconds)} lists of readers without an error, "
            f"slowest {max(seconds):.1f} s, median {median(seconds) * 1000:.0f} ms"
        )


def timed(request: Callable[[], int], seconds: list[float]) -> int:
    begun = time.monotonic()
    answer = request()
    seconds.append(time.monotonic() - begun)
    return answer


def run_jobs(
    site: Site, numbers: Iterator[int], end: threading.Event, answers: Counter[int]
) -> None:
    """Start and stop jobs; repeat each request until it succeeds, and record it."""
    while not end.is_set():
        number = next(numbers)
        for path, body, success in (
            ("/start_job/", job(jobId=number), 201),
            ("/stop_job/", stop(jobId=number), 200),
        ):
            status = 0
            while status != success and not end.is_set():
                status, answer = site.send(Role.WRITER, path, body)
                answers[status] += 1
                if status == 422:  # It had succeeded, but the answer was lost.
                    assert "already" in answer["error"]
                    break
                time.sleep(0 if status == success else 0.1)
            if status == success:
                PROMISED[success].add(number)


PROMISED: dict[int, set[int]] = {201: set(), 200: set()}


def test_a_promoted_replica_has_every_confirmed_job(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.servers.be_synchronous()
    numbers, end, answers = itertools.count(1), threading.Event(), Counter[int]()
    threads = [
        threading.Thread(target=run_jobs, args=(site, numbers, end, answers))
        for _ in range(_THREADS)
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(PROMISED[200]) > 300, "the load does not start", 60)
    site.servers.primary.process.kill()
    site.servers.primary.process.wait()
    killed, promised = time.monotonic(), len(PROMISED[201])
    time.sleep(1)
    site.servers.replica.run("SELECT pg_promote()")
    promoted = time.monotonic()
    wait_until(lambda: len(PROMISED[201]) > promised + 20, "the service does not recover", 30)
    seconds = time.monotonic() - promoted
    wait_until(lambda: len(PROMISED[200]) > 900, "the load does not continue", 60)
    end.set()
    for thread in threads:
        thread.join()
    database = Database(site.servers.replica.url)
    with database.session() as conn:
        states = dict(conn.execute("SELECT job_id, job_state::text FROM jobs").fetchall())
    assert PROMISED[201] - states.keys() == set()
    assert {number for number in PROMISED[200] if states[number] != "completed"} == set()
    assert set(answers) <= {0, 200, 201, 422, 503}
    with capsys.disabled():
        print(
            f"\nprimary killed under load, replica promoted after {promoted - killed:.1f} s: "
            f"first start after {seconds:.1f} s; {len(PROMISED[201])} starts and "
            f"{len(PROMISED[200])} stops answered, lost 0; answers {dict(answers)}"
        )
