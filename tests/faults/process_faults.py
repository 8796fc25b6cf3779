"""Processes of the service die, or are replaced under load."""

import random
import time
from collections.abc import Callable

from tests.faults.audit import Tolerance
from tests.faults.bench import Bench, Setup
from tests.faults.fault import Fault

# A worker that is killed takes its connection along; nothing else may fail.
_NO_ANSWER = Tolerance(frozenset({"0"}))
_SETTLED = 40
# What counts is that every request is answered; the table shows how long the longest waited.
_PATIENT = Setup(client_timeout=30)
_STEPS = (
    ("start_job: before the commit", "kill-start-uncommitted", 2),
    ("start_job: after the commit", "kill-start-committed", 3),
    ("stop_job: before the commit", "kill-stop-uncommitted", 3),
    ("stop_job: after the commit", "kill-stop-committed", 4),
    ("stop_job: file half written", "kill-stop-half-written", 4),
    ("stop_job: file written, not renamed", "kill-stop-written", 3),
    ("stop_job: renamed, status not committed", "kill-stop-renamed", 4),
    ("stop_job: status committed, no answer", "kill-stop-archived", 3),
    ("tag_job: renamed, not committed", "kill-tag-renamed", 3),
    ("tag_job: committed, no answer", "kill-tag-committed", 2),
    ("delete_job: committed, no answer", "kill-delete-committed", 2),
)


def _kill_worker(bench: Bench) -> None:
    bench.strike(random.choice(bench.services).kill_worker)


def _kill_at(flag: str) -> Callable[[Bench], None]:
    def inject(bench: Bench) -> None:
        (bench.flags / flag).touch()
        bench.await_flag_taken(flag)
        now = time.monotonic()
        bench.struck(now, now)

    return inject


def _kill_master(bench: Bench) -> None:
    """Kill the master; the workers, left alone, end by themselves or are killed like it."""
    service = bench.service

    def heal() -> None:
        if random.random() < 0.5:
            service.await_orphans(3)
        service.kill_group()
        service.start()

    bench.strike(service.kill_master, heal)


def _reload(bench: Bench) -> None:
    """Replace the workers; gunicorn ends the old ones at once, and requests wait for the new."""
    bench.strike(bench.service.reload)
    bench.await_attempts(_SETTLED)


def _take_over(bench: Bench) -> None:
    bench.strike(bench.service.take_over)
    bench.await_attempts(_SETTLED)


def _await_recycling(bench: Bench) -> None:
    before = bench.service.recycled()
    deadline = time.monotonic() + 20
    while bench.service.recycled() == before:
        if time.monotonic() > deadline:
            raise TimeoutError("no worker reached its number of requests")
        time.sleep(0.01)
    now = time.monotonic()
    bench.struck(now, now)


FAULTS = (
    Fault("worker killed (-9)", 14, _kill_worker, tolerance=_NO_ANSWER),
    *(
        Fault(f"worker killed in {name}", weight, _kill_at(flag), tolerance=_NO_ANSWER)
        for name, flag, weight in _STEPS
    ),
    Fault("gunicorn's master killed (-9)", 4, _kill_master, tolerance=_NO_ANSWER),
    Fault(
        "two services, a worker of one killed",
        3,
        _kill_worker,
        Setup(services=2, workers=2, twins=2),
        _NO_ANSWER,
    ),
    Fault("rolling restart: SIGHUP", 3, _reload, _PATIENT),
    Fault("rolling restart: SIGUSR2 to a second gunicorn", 2, _take_over, _PATIENT),
    Fault(
        "workers end at --max-requests 50",
        5,
        _await_recycling,
        Setup(gunicorn=("--max-requests", "50", "--max-requests-jitter", "10")),
    ),
)
