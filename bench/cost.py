"""CPU time per request of gunicorn's workers and PostgreSQL's backends together.

With `--beside CHECKOUT`, another commit answers the same requests in turns. It runs its own code
on a database of its own, which its own benchmark fills.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import load_generator
from bench.http_requests import JOB_NUMBERS, get, start_job, stop_job
from bench.lists import WEEK_SECONDS, get_json
from bench.load_generator import LoadSpec
from bench.report import Row, spread
from bench.server import children, cpu_seconds
from bench.testbed import Testbed

_ROUNDS = 7
_CLIENTS = 4
_REQUESTS = 300
_LISTS = {
    "the newest 25 jobs": "",
    "25 running jobs": "?state=running",
    "25 jobs by state and cluster": "?state=completed&cluster=fritz",
    "25 failed jobs": "?state=failed",
    "25 jobs of a user": "?user={user}",
    "25 jobs of a week": "?start-time={week}",
}
_START, _STOP, _DEEP_PAGE = "a start", "a stop", "page 20,000 by number"
_PAGE, _PAGE_REQUESTS = 20_000, 30
# To the other commit, if that is 5f418a2.
_LIST_BAR = 0.65
_BARS = {_START: 0.7, _STOP: 1.0, _DEEP_PAGE: 0.25}


@dataclass(frozen=True)
class Side:
    """A commit's running service, and the process ids of its gunicorn and its PostgreSQL."""

    socket: str
    admin_token: str
    gunicorn_pid: int
    postgres_pid: int

    def lists(self, jobs: int) -> dict[str, str]:
        """Return the requests of lists, with the user and the week of the latest job."""
        [job] = get_json(self.socket, self.admin_token, "?cluster=fritz&items-per-page=1")["jobs"]
        week = f"{job['startTime'] - WEEK_SECONDS}-{job['startTime']}"
        page = f"?page={min(_PAGE, jobs // 25)}"
        return {
            what: get(f"/api/jobs/{query.format(user=job['user'], week=week)}", self.admin_token)
            for what, query in {**_LISTS, _DEEP_PAGE: page}.items()
        }

    def measure(self, request: str, count: int, first_number: int, clients: int) -> float:
        """Send a request several times, and return the CPU seconds of each."""
        before = self._cpu_seconds()
        spec = LoadSpec(
            socket=self.socket,
            request=request,
            first_number=first_number,
            count=count,
            clients=clients,
        )
        load_generator.run(spec).require_status(200, 201)
        return (self._cpu_seconds() - before) / count

    def _cpu_seconds(self) -> float:
        backends = filter(_serves_client, children(self.postgres_pid))
        return sum(map(cpu_seconds, (*children(self.gunicorn_pid), *backends)))


def _serves_client(pid: int) -> bool:
    """Return whether a process of PostgreSQL serves a client; its title says so."""
    return b"[local]" in Path(f"/proc/{pid}/cmdline").read_bytes()


def compare(testbed: Testbed, checkout: Path | None = None) -> Iterator[Row]:
    """Measure lists, a start and a stop, beside a checkout of another commit if there is one."""
    large = testbed.large
    # Autovacuum would do it within a minute.
    large.execute("ANALYZE")
    assert testbed.postgres.pid is not None
    sides = [Side(large.socket, large.admin_token, large.server.pid, testbed.postgres.pid)]
    jobs = large.query_number("SELECT count(*) FROM jobs WHERE job_state <> 'running'")
    with ExitStack() as stack:
        if checkout is not None:
            home = testbed.directory / "beside"
            sides.append(stack.enter_context(_run_beside(checkout, home, jobs)))
        rounds = [_measure_in_turns(sides, jobs) for _ in range(1 + _ROUNDS)]
    for what in rounds[0]:
        # The first round warms up.
        own, *other = zip(*(costs[what] for costs in rounds[1:]), strict=True)
        details = f"us per request, min / median / max: {spread(own, 1e6)}"
        if other:
            yield Row(
                what=f"CPU with PostgreSQL, to the other commit: {what}",
                measured=median(own) / median(other[0]),
                bar=_BARS.get(what, _LIST_BAR),
                details=f"{details}; the other commit {spread(other[0], 1e6)}",
            )
        else:
            yield Row(
                what=f"CPU with PostgreSQL: {what}",
                measured=1e6 * median(own),
                bar=None,
                unit="us",
                details=details,
            )


def _measure_in_turns(sides: list[Side], jobs: int) -> dict[str, list[float]]:
    """Return the CPU seconds of each kind of request on each side."""
    costs: dict[str, list[float]] = {}
    lists = [side.lists(jobs) for side in sides]
    for what in lists[0]:
        is_expensive = what == _DEEP_PAGE  # One of the two workers answers these.
        count, clients = (_PAGE_REQUESTS, 1) if is_expensive else (_REQUESTS, _CLIENTS)
        costs[what] = [
            side.measure(requests[what], count, 0, clients)
            for side, requests in zip(sides, lists, strict=True)
        ]
    first = JOB_NUMBERS.reserve(_REQUESTS)
    for what, request in ((_START, start_job), (_STOP, stop_job)):
        costs[what] = [
            side.measure(request(side.admin_token), _REQUESTS, first, _CLIENTS) for side in sides
        ]
    return costs


@contextmanager
def _run_beside(checkout: Path, home: Path, jobs: int) -> Iterator[Side]:
    """Run another checkout's testbed with as many jobs until the block ends."""
    program = Path(__file__).with_name("beside.py")
    with subprocess.Popen(  # noqa: S603 - a program of ours
        [sys.executable, "-P", program, home, str(jobs)],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout.resolve())},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            sys.exit(f"the benchmark of {checkout} does not run")
        yield Side(**json.loads(line))
