"""Processes of the service die, or are replaced under load."""

import random
import time
from collections.abc import Callable

from tests.faults.audit import Tolerance
from tests.faults.fault import Fault
from tests.faults.series import Series, Setup

# A killed worker closes its connection; no other request may fail.
_NO_ANSWER = Tolerance(frozenset({"0"}))
_ATTEMPTS_AFTERWARDS = 40
# Every request must be answered; the table has the maximum time.
_LONG_TIMEOUT = Setup(client_timeout=30)
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


def _kill_worker(series: Series) -> None:
    series.strike(random.choice(series.services).kill_worker)


def _kill_at(flag: str) -> Callable[[Series], None]:
    def inject(series: Series) -> None:
        (series.flags / flag).touch()
        series.await_flag_taken(flag)
        now = time.monotonic()
        series.record_strike(now, now)

    return inject


def _kill_master(series: Series) -> None:
    """Kill the master; its workers end by themselves or are killed as well."""
    service = series.service

    def heal() -> None:
        if random.random() < 0.5:
            service.await_orphans(3)
        service.kill_group()
        service.start()

    series.strike(service.kill_master, heal)


def _reload(series: Series) -> None:
    """Replace the workers; gunicorn ends the old ones at once, and requests wait for the new."""
    series.strike(series.service.reload)
    series.await_attempts(_ATTEMPTS_AFTERWARDS)


def _take_over(series: Series) -> None:
    series.strike(series.service.take_over)
    series.await_attempts(_ATTEMPTS_AFTERWARDS)


def _await_recycling(series: Series) -> None:
    before = series.service.recycled()
    deadline = time.monotonic() + 20
    while series.service.recycled() == before:
        if time.monotonic() > deadline:
            raise TimeoutError("no worker reached --max-requests")
        time.sleep(0.01)
    now = time.monotonic()
    series.record_strike(now, now)


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
    Fault("rolling restart: SIGHUP", 3, _reload, _LONG_TIMEOUT),
    Fault("rolling restart: SIGUSR2 to a second gunicorn", 2, _take_over, _LONG_TIMEOUT),
    Fault(
        "workers end at --max-requests 50",
        5,
        _await_recycling,
        Setup(gunicorn=("--max-requests", "50", "--max-requests-jitter", "10")),
    ),
)
