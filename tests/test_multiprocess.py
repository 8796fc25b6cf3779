"""Workers count together: nothing is lost with a worker, nothing grows with their number."""

import os
import signal
import time
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

from ccapi import prometheus_multiproc as multiprocess
from ccapi.config import Config
from ccapi.db.pool import Database
from ccapi.model.token import Role
from ccapi.service import tokens
from tests.client import Client
from tests.processes import Service, gunicorn

BASE = Path("/dev/shm")


def counted(directory: Path, pid: int, jobs: float) -> None:
    """Leave the file of a worker that counted."""
    file = MmapedDict(str(directory / f"counter_{pid}.db"))
    file.write_value(mmap_key("jobs", "jobs_total", ["cluster"], ["a"], "help"), jobs, 0.0)
    file.close()


def total(directory: Path) -> float:
    collector = MultiProcessCollector(None, str(directory))
    [metric] = collector.collect()
    return float(sum(sample.value for sample in metric.samples))


def test_what_ended_workers_counted_is_kept_in_one_file(tmp_path: Path) -> None:
    for pid in range(1, 200):
        counted(tmp_path, pid, 2)
        multiprocess.fold(tmp_path, pid)
    counted(tmp_path, 1000, 3)
    assert total(tmp_path) == 199 * 2 + 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "counter_0.db",
        "counter_1000.db",
        "lock",
    ]
    assert (tmp_path / "counter_0.db").stat().st_size <= 131_072


def test_a_worker_that_counted_nothing_is_no_problem(tmp_path: Path) -> None:
    multiprocess.fold(tmp_path, 1)


def test_the_directory_is_new_and_those_of_the_dead_are_cleared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(multiprocess.VARIABLE, "/nonexistent")
    dead = BASE / "ccapi-metrics-999999999-x"
    dead.mkdir()
    foreign = BASE / "ccapi-metrics-something"
    foreign.mkdir()
    made = multiprocess.make(os.geteuid(), os.getegid())
    try:
        assert multiprocess.directory() == made
        assert (made.stat().st_mode & 0o777, list(made.iterdir())) == (0o700, [])
        assert not dead.exists()
        assert foreign.exists()
    finally:
        multiprocess.remove(made)
        foreign.rmdir()
    assert not made.exists()


def test_all_workers_agree_on_the_names_that_are_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(multiprocess.VARIABLE, str(tmp_path))
    one, other = multiprocess.Names(3), multiprocess.Names(3)
    assert [one.label(name) for name in "ab"] == ["a", "b"]
    assert [other.label(name) for name in "cda"] == ["c", "other", "a"]
    assert [one.label(name) for name in "cde"] == ["c", "other", "other"]


def scrape(service: Service, token: str) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{service.port}/metrics")
    request.add_header("X-Auth-Token", token)
    with urllib.request.urlopen(request, timeout=30) as response:
        return str(response.read().decode())


def listed(text: str) -> float:
    mark = 'ccapi_requests_total{endpoint="list_jobs",status="401"} '
    return float(text.partition(mark)[2].split("\n")[0] or 0)


def ask(service: Service, times: int) -> None:
    for _ in range(times):
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{service.url}/", timeout=30)


def test_gunicorns_workers_answer_with_one_count_that_survives_them(
    config: Config, database: Database, admin: Client, tmp_path: Path
) -> None:
    token = tokens.create(database, "prometheus", Role.READER)
    # The workers hear of this job's cluster only while they are asked for figures.
    admin.start(cluster="unheard-of")
    settings = {
        "CCAPI_DATABASE_URL": config.database.url,
        "CCAPI_ARCHIVE_ROOT": str(config.archive.root),
    }
    with gunicorn(settings, tmp_path, workers=2) as service:
        ask(service, 20)
        assert {listed(scrape(service, token)) for _ in range(6)} == {20}
        running = 'ccapi_jobs{cluster="unheard-of",state="running"} 1.0'
        assert running in scrape(service, token)
        killed = service.workers()
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while len(set(service.workers()) - set(killed)) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        ask(service, 5)
        assert listed(scrape(service, token)) == 25
        [directory] = BASE.glob(f"ccapi-metrics-{service.pid}-*")
        assert not [pid for pid in killed if list(directory.glob(f"*_{pid}.db"))]
    assert not directory.exists()
