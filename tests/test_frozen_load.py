"""A steady load of starts and stops while the archive's file system is frozen.

FROZEN_SECONDS=60 freezes it for a minute, and then compares the times with the ones before.
"""

import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from statistics import quantiles
from typing import NamedTuple

import pytest

from ccapi.archive import reader
from ccapi.config import Config
from ccapi.db.pool import Database
from ccapi.model.token import Role
from ccapi.service import tokens
from tests.client import job, stop
from tests.frozen_disk import disk, eventually, run, send
from tests.processes import Service, gunicorn

pytestmark = pytest.mark.slow
__all__ = ["disk"]

_VARIABLE = "FROZEN_SECONDS"
SECONDS = float(os.environ.get(_VARIABLE, "3"))
IS_LONG = _VARIABLE in os.environ
# A slow machine gets less to do, and its times are not compared.
RATE = 40 if IS_LONG else 10
RUNNING = 2 * RATE


class Report(NamedTuple):
    """A start or a stop: when it was due, how long it took, its status and monitoringStatus."""

    is_stop: bool
    due: float
    seconds: float
    status: int
    monitoring: int


class Load:
    """Reports jobs at a steady rate; each runs for two seconds."""

    def __init__(self, service: Service, token: str, clients: ThreadPoolExecutor) -> None:
        self._service, self._token, self._clients = service, token, clients
        self._sent: list[Future[Report]] = []
        self._number = 0

    def run(self, seconds: float) -> None:
        """Send so long; the answers may come later."""
        begin = time.monotonic()
        for tick in range(round(seconds * RATE)):
            due = begin + tick / RATE
            time.sleep(max(0, due - time.monotonic()))
            self._number += 1
            self._sent.append(self._clients.submit(self._report, self._number, due))
            if self._number > RUNNING:
                ended = RUNNING - self._number
                self._sent.append(self._clients.submit(self._report, ended, due))

    def _report(self, number: int, due: float) -> Report:
        path = "/api/jobs/stop_job/" if number < 0 else "/api/jobs/start_job/"
        body = stop(jobId=-number) if number < 0 else job(jobId=number)
        status, answer = send(self._service, self._token, path, body)
        monitoring = answer.get("monitoringStatus", 0)
        return Report(number < 0, due, time.monotonic() - due, status, monitoring)

    def reports(self) -> Iterator[Report]:
        """Wait for all answers."""
        return (sent.result() for sent in self._sent)


def p99(reports: list[Report]) -> float:
    return quantiles([report.seconds for report in reports if not report.is_stop], n=100)[98]


def test_load_beside_a_frozen_archive(
    disk: Path, config: Config, database: Database, tmp_path: Path
) -> None:
    token = tokens.create(database, "frozen", Role.WRITER)
    root = disk / "job-archive"
    settings = {
        "CCAPI_DATABASE_URL": config.database.url,
        "CCAPI_ARCHIVE_ROOT": str(root),
        "CCAPI_ARCHIVE_TIMEOUT": "5" if IS_LONG else "1",
    }
    with gunicorn(settings, tmp_path) as service, ThreadPoolExecutor(64) as clients:
        workers = service.workers()
        load = Load(service, token, clients)
        load.run(SECONDS)
        assert run("fsfreeze", "-f", str(disk))
        frozen = time.monotonic()
        load.run(SECONDS)
        assert run("fsfreeze", "-u", str(disk))
        thawed = time.monotonic()
        reports = list(load.reports())
        stops = [report for report in reports if report.is_stop]
        assert {report.status for report in reports} == {200, 201}
        late = [report for report in stops if frozen < report.due < thawed - report.seconds]
        assert {report.monitoring for report in late} == {2}
        assert eventually(lambda: len(list(reader.keys(root))) == len(stops))
        archived = time.monotonic() - thawed
        assert service.workers() == workers
    before = p99([report for report in reports if report.due < frozen])
    beside = p99([report for report in reports if frozen < report.due < thawed])
    slowest = max(report.seconds for report in late)
    print(f"{len(reports)} reports; p99 of starts {before * 1e3:.1f} and {beside * 1e3:.1f} ms;")
    print(f"slowest stop {slowest:.1f} s; all archived {archived:.1f} s after the thaw")
    if IS_LONG:
        assert beside < 2 * before
        assert slowest < 6
        assert archived < 10
