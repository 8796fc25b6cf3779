import itertools
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ccapi.archive import layout
from ccapi.context import Context
from ccapi.model.job import JobKey
from ccapi.service import archive, archive_check
from ccapi.service.archive_check import Finding
from tests.client import START, Client

STATISTICS = {"mem_bw": {"unit": "GB/s", "avg": 1.5, "min": 0, "max": 1e300}}
TAGS = [{"type": "b", "name": "2"}, {"type": "b", "name": "1"}, {"type": "ä", "name": "\U0001f600"}]


@pytest.fixture(autouse=True)
def _short_recheck_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_check, "_RECHECK_DELAY_SECONDS", 0.4)


def findings(context: Context) -> list[Finding]:
    return list(archive_check.check(context))


def kinds(context: Context) -> list[str]:
    return [finding.kind for finding in findings(context)]


def meta_path(context: Context) -> Path:
    return layout.meta_path(context.archive_root, JobKey("fritz", 123000, START))


@pytest.fixture
def archived(admin: Client) -> int:
    """A job that was stopped and archived."""
    id_ = admin.start(tags=TAGS, statistics=STATISTICS, metaData={"jobScript": "exit 0"})
    admin.stop()
    return id_


def test_archive_and_database_agree_after_a_clean_run(
    writer: Client, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_check, "_BATCH_SIZE", 3)
    for number in range(1, 12):
        id_ = writer.start(
            jobId=number * 999,
            monitoringStatus=number % 4,
            tags=TAGS[: number % 3],
            statistics=STATISTICS if number % 2 else {},
            metaData={"jobName": 'quoted "é"\n'} if number % 3 else {},
            walltime=number,
            partition="",
        )
        if number != 5:
            writer.stop(jobId=number * 999, stopTime=START + number // 6, jobState="timeout")
        writer.send("POST", f"/tag_job/{id_}", TAGS[1:])
    assert len(list(context.archive_root.rglob("meta.json"))) == 8
    assert findings(context) == []


def test_empty_archive_agrees_with_an_empty_database(context: Context) -> None:
    assert findings(context) == []


def test_job_whose_archiving_failed_is_missing(writer: Client, context: Context) -> None:
    (context.archive_root / "fritz").write_text("in the way")
    writer.start()
    writer.stop()
    [finding] = findings(context)
    assert (finding.kind, finding.path) == ("missing", meta_path(context))
    assert "ccapi archive retry" in finding.reason
    (context.archive_root / "fritz").unlink()
    list(archive.retry(context))
    assert findings(context) == []


def test_archived_job_without_its_file_is_missing(context: Context, archived: int) -> None:
    meta_path(context).unlink()
    missing, directory = findings(context)
    assert missing.kind == "missing"
    assert missing.path == meta_path(context)
    assert f"id {archived}" in missing.reason
    assert directory == Finding("broken", meta_path(context).parent, "has no meta.json")


@pytest.mark.slow
@pytest.mark.usefixtures("archived")
@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: b"\0" * len(data),
        lambda data: b"[]",
        lambda data: data.replace(b"abcd100h", b"mallory1"),
        lambda data: data.replace(b'"jobId":123000', b'"jobId":123001'),
        lambda data: data.replace(b'"duration":3600', b'"duration":3601'),
        lambda data: data.replace(b'"name":"2"', b'"name":"3"'),
        lambda data: data.replace(b'"GB/s"', b'"MB/s"').replace(b'"G"', b'"M"'),
        lambda data: data.replace(b"exit 0", b"exit 1"),
    ],
    ids=[
        "empty",
        "cut off",
        "zeros",
        "no job",
        "user",
        "jobId",
        "duration",
        "tag",
        "unit",
        "script",
    ],
)
def test_file_with_another_content_is_broken(
    context: Context, spoil: Callable[[bytes], bytes]
) -> None:
    path = meta_path(context)
    path.write_bytes(spoil(path.read_bytes()))
    [finding] = findings(context)
    assert (finding.kind, finding.path) == ("broken", path)


@pytest.mark.parametrize("by", ["request", "id"])
def test_file_of_a_deleted_job_is_orphaned(
    admin: Client, context: Context, archived: int, by: str
) -> None:
    path = {"request": "/", "id": f"/{archived}"}[by]
    body = {"jobId": 123000} if by == "request" else None
    assert admin.send("DELETE", f"/delete_job{path}", body).status_code == 200
    [finding] = findings(context)
    assert (finding.kind, finding.path) == ("orphaned", meta_path(context))


@pytest.mark.usefixtures("archived")
def test_file_of_an_unknown_run_is_orphaned(context: Context) -> None:
    other = layout.meta_path(context.archive_root, JobKey("fritz", 123000, START + 1))
    other.parent.mkdir()
    other.write_bytes(meta_path(context).read_bytes())
    [finding] = findings(context)
    assert (finding.kind, finding.path) == ("orphaned", other)


@pytest.mark.usefixtures("archived")
def test_directory_without_meta_json_is_broken(context: Context) -> None:
    empty = context.archive_root / "alex" / "0" / "001" / "1"
    empty.mkdir(parents=True)
    assert findings(context) == [Finding("broken", empty, "has no meta.json")]


@pytest.mark.usefixtures("archived")
def test_files_of_other_programs_are_ignored(context: Context) -> None:
    root = context.archive_root
    (root / "fritz" / "cluster.json").write_text("{}")
    (root / "lost+found").mkdir()
    (meta_path(context).parent / "data.json.gz").write_bytes(b"\x1f\x8b")
    assert findings(context) == []


def test_every_batch_is_checked(
    admin: Client, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_check, "_BATCH_SIZE", 2)
    for number in range(1, 8):
        admin.start(jobId=number)
        admin.stop(jobId=number)
    for number in (1, 4, 7):
        path = layout.meta_path(context.archive_root, JobKey("fritz", number, START))
        path.write_bytes(b"{}")
    for number in (2, 5):
        admin.send("DELETE", "/delete_job/", {"jobId": number})
    assert kinds(context) == ["broken"] * 3 + ["orphaned"] * 2


class SlowDisk:
    """Delays the n-th fsync until a check has run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        self.is_reached = threading.Event()
        self._calls = itertools.count(1)
        self._number = number
        self._fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self._slow)

    def _slow(self, descriptor: int) -> None:
        if next(self._calls) == self._number:
            self.is_reached.set()
            time.sleep(0.2)
        self._fsync(descriptor)


# The first job of a cluster: four directories are created, then the file, then its name.
ANY_STEP = pytest.mark.parametrize("step", [1, 4, 5, 6], ids="fsync {}".format)


@pytest.mark.slow
@ANY_STEP
def test_stop_during_the_check_is_not_a_finding(
    writer: Client, context: Context, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    disk = SlowDisk(monkeypatch, step)
    writer.start()
    stopping = threading.Thread(target=writer.twin().stop)
    stopping.start()
    assert disk.is_reached.wait(10)
    results = findings(context)
    stopping.join()
    assert results == []


@pytest.mark.slow
@ANY_STEP
def test_stop_after_the_comparison_of_jobs_is_not_a_finding(
    writer: Client, context: Context, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    writer.start(jobId=1, cluster="alex")
    writer.stop(jobId=1)
    next(context.archive_root.rglob("meta.json")).write_text("broken")
    checked = archive_check.check(context)
    assert next(checked).kind == "broken"
    disk = SlowDisk(monkeypatch, step)
    writer.start()
    stopping = threading.Thread(target=writer.twin().stop)
    stopping.start()
    assert disk.is_reached.wait(10)
    results = list(checked)
    stopping.join()
    assert results == []
