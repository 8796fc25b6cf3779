"""Metrics of several workers: no count is lost, and the number of files stays small."""

import fcntl
import os
import shutil
import signal
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

from ccapi import prometheus_multiproc
from ccapi.config import Config
from ccapi.db.pool import Database
from ccapi.model.token import Role
from ccapi.service import tokens
from tests.client import Client
from tests.processes import Service, gunicorn

SHARED_MEMORY = Path("/dev/shm")


def write_counter(directory: Path, pid: int, jobs: float) -> None:
    """Write the file of a worker that counted jobs."""
    file = MmapedDict(str(directory / f"counter_{pid}.db"))
    file.write_value(mmap_key("jobs", "jobs_total", ["cluster"], ["a"], "help"), jobs, 0.0)
    file.close()


def total(directory: Path) -> float:
    collector = MultiProcessCollector(None, str(directory))
    [metric] = collector.collect()
    return float(sum(sample.value for sample in metric.samples))


def test_counters_of_ended_workers_are_merged_into_one_file(tmp_path: Path) -> None:
    for pid in range(1, 200):
        write_counter(tmp_path, pid, 2)
        prometheus_multiproc.merge_dead_worker(tmp_path, pid)
    write_counter(tmp_path, 1000, 3)
    assert total(tmp_path) == 199 * 2 + 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "counter_0.db",
        "counter_1000.db",
        "lock",
    ]
    assert (tmp_path / "counter_0.db").stat().st_size <= 131_072


def test_a_worker_without_counters_may_end(tmp_path: Path) -> None:
    prometheus_multiproc.merge_dead_worker(tmp_path, 1)


def test_directories_of_dead_processes_are_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(prometheus_multiproc.VARIABLE, "/nonexistent")
    dead = SHARED_MEMORY / "ccapi-metrics-999999999-x"
    dead.mkdir()
    (dead / "live").touch()
    others = Path(tempfile.mkdtemp(prefix="ccapi-metrics-999999999-", dir=SHARED_MEMORY))
    live = os.open(others / "live", os.O_RDWR | os.O_CREAT)
    fcntl.flock(live, fcntl.LOCK_SH)
    foreign = SHARED_MEMORY / "ccapi-metrics-something"
    foreign.mkdir()
    made = prometheus_multiproc.make(os.geteuid(), os.getegid())
    try:
        assert prometheus_multiproc.directory() == made
        assert (made.stat().st_mode & 0o777, list(made.iterdir())) == (0o700, [made / "live"])
        assert not dead.exists()
        assert foreign.exists()
        assert others.exists(), "its process runs, but is not seen"
    finally:
        prometheus_multiproc.remove(made)
        foreign.rmdir()
        os.close(live)
        shutil.rmtree(others)
    assert not made.exists()


def test_workers_use_the_same_names_as_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(prometheus_multiproc.VARIABLE, str(tmp_path))
    one, other = prometheus_multiproc.LabelLimiter(3), prometheus_multiproc.LabelLimiter(3)
    assert [one.label(name) for name in "ab"] == ["a", "b"]
    assert [other.label(name) for name in "cda"] == ["c", "other", "a"]
    assert [one.label(name) for name in "cde"] == ["c", "other", "other"]


def test_labels_need_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(prometheus_multiproc.VARIABLE, str(tmp_path / "removed"))
    assert prometheus_multiproc.LabelLimiter(3).label("a") == "other"


def scrape(service: Service, token: str) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{service.port}/metrics")
    request.add_header("X-Auth-Token", token)
    with urllib.request.urlopen(request, timeout=30) as response:
        return str(response.read().decode())


def unauthorized_requests(text: str) -> float:
    series = 'ccapi_requests_total{endpoint="list_jobs",status="401"} '
    return float(text.partition(series)[2].split("\n")[0] or 0)


def send_unauthorized_requests(service: Service, times: int) -> None:
    for _ in range(times):
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{service.url}/", timeout=30)


@pytest.mark.slow
def test_counters_of_gunicorns_workers_survive_them(
    config: Config, database: Database, admin: Client, tmp_path: Path
) -> None:
    token = tokens.create(database, "prometheus", Role.READER)
    # The workers learn of this cluster only during a scrape.
    admin.start(cluster="unheard-of")
    settings = {
        "CCAPI_DATABASE_URL": config.database.url,
        "CCAPI_ARCHIVE_ROOT": str(config.archive.root),
    }
    with gunicorn(settings, tmp_path, workers=2) as service:
        send_unauthorized_requests(service, 20)
        assert {unauthorized_requests(scrape(service, token)) for _ in range(6)} == {20}
        running = 'ccapi_jobs{cluster="unheard-of",state="running"} 1.0'
        assert running in scrape(service, token)
        killed = service.workers()
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while len(set(service.workers()) - set(killed)) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        send_unauthorized_requests(service, 5)
        assert unauthorized_requests(scrape(service, token)) == 25
        [directory] = SHARED_MEMORY.glob(f"ccapi-metrics-{service.pid}-*")
        assert not [pid for pid in killed if list(directory.glob(f"*_{pid}.db"))]
    assert not directory.exists()


@pytest.mark.slow
def test_pools_with_the_same_settings_count_together(
    config: Config, database: Database, tmp_path: Path
) -> None:
    token = tokens.create(database, "prometheus", Role.READER)
    settings = {
        "CCAPI_CONFIG": str(tmp_path / "config.toml"),
        "CCAPI_DATABASE_URL": config.database.url,
        "CCAPI_ARCHIVE_ROOT": str(config.archive.root),
    }
    (tmp_path / "config.toml").touch()
    directories = [tmp_path / name for name in ("reports", "readers", "elsewhere")]
    for directory in directories:
        directory.mkdir()
    reports, readers, elsewhere = directories
    other = {**settings, "CCAPI_CONFIG": str(elsewhere / "config.toml")}
    (elsewhere / "config.toml").touch()
    with (
        gunicorn(settings, reports, workers=1) as one,
        gunicorn(other, elsewhere, workers=1) as stranger,
    ):
        with gunicorn(settings, readers, workers=1) as two:
            send_unauthorized_requests(one, 2)
            send_unauthorized_requests(two, 3)
            send_unauthorized_requests(stranger, 7)
            assert {unauthorized_requests(scrape(pool, token)) for pool in (one, two)} == {5}
            assert unauthorized_requests(scrape(stranger, token)) == 7
        assert unauthorized_requests(scrape(one, token)) == 2
