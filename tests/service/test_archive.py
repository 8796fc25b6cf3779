import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from ccapi.archive import layout, meta_json, reader
from ccapi.context import Context
from ccapi.db.pool import Database
from ccapi.errors import ArchiveError
from ccapi.model.job import Job, JobKey
from ccapi.repository import jobs
from ccapi.service import archive, deletion
from tests.client import START, Client, at_once


class Outage:
    """Makes the directory of the cluster fritz unusable until it ends."""

    def __init__(self, root: Path) -> None:
        self._obstacle = root / "fritz"
        self._obstacle.write_text("in the way")

    def end(self) -> None:
        self._obstacle.unlink()


@pytest.fixture
def pending(writer: Client, context: Context) -> list[int]:
    """Three jobs that stopped while the archive could not be written."""
    outage = Outage(context.archive_root)
    ids = [writer.start(jobId=number) for number in (1, 2, 3)]
    for number in (1, 2, 3):
        assert writer.stop(jobId=number)["monitoringStatus"] == 2
    outage.end()
    return ids


def retry(context: Context) -> list[Job]:
    return list(archive.retry(context))


def archived(context: Context) -> set[int]:
    return {key.job_id for key in reader.keys(context.archive_root)}


def statuses(client: Client) -> set[int]:
    return {job["monitoringStatus"] for job in client.list()}


def clear_failures(database: Database) -> None:
    """Change failed jobs as if the service had died before it recorded the failure."""
    with database.connection() as conn:
        conn.execute("UPDATE archive_queue SET has_failed = false")


def test_retry_archives_jobs_that_failed_before(
    writer: Client, context: Context, pending: list[int]
) -> None:
    retried = retry(context)
    assert [(job.id, job.monitoring_status) for job in retried] == [(id_, 3) for id_ in pending]
    assert archived(context) == {1, 2, 3}
    assert statuses(writer) == {3}
    assert retry(context) == []


def test_retry_writes_the_job_with_its_later_tags(
    writer: Client, context: Context, pending: list[int]
) -> None:
    writer.send("POST", f"/tag_job/{pending[0]}", [{"type": "Debug", "name": "Testjob"}])
    retry(context)
    with context.database.connection() as conn:
        job = jobs.get(conn, pending[0])
    assert job is not None
    path = layout.meta_path(context.archive_root, JobKey("fritz", 1, START))
    assert path.read_bytes() == meta_json.encode(job, ["main"])
    assert b'"tags":[{"type":"Debug","name":"Testjob"}]' in path.read_bytes()


def test_retry_finds_a_job_whose_archiving_was_interrupted(
    writer: Client, context: Context, database: Database
) -> None:
    outage = Outage(context.archive_root)
    id_ = writer.start()
    writer.stop()
    outage.end()
    clear_failures(database)
    assert statuses(writer) == {1}
    assert [job.id for job in retry(context)] == [id_]
    assert archived(context) == {123000}


def test_retry_ignores_running_unmonitored_and_archived_jobs(
    writer: Client, context: Context
) -> None:
    writer.start(jobId=1)
    for number, status in ((2, 0), (3, 1)):
        writer.start(jobId=number, monitoringStatus=status)
        writer.stop(jobId=number)
    assert retry(context) == []
    assert archived(context) == {3}


def test_failed_retry_is_logged_and_can_be_repeated(
    writer: Client,
    context: Context,
    pending: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    outage = Outage(context.archive_root)
    assert [job.monitoring_status for job in retry(context)] == [2, 2, 2]
    assert statuses(writer) == {2}
    assert all(f"id {id_}" in caplog.text for id_ in pending)
    outage.end()
    assert [job.monitoring_status for job in retry(context)] == [3, 3, 3]


def test_failure_of_one_job_does_not_stop_the_others(writer: Client, context: Context) -> None:
    outage = Outage(context.archive_root)
    for number, cluster in enumerate(("fritz", "alex", "fritz"), 1):
        writer.start(jobId=number, cluster=cluster)
        writer.stop(jobId=number)
    assert [job.monitoring_status for job in retry(context)] == [2, 2]
    assert archived(context) == {2}
    outage.end()
    retry(context)
    assert archived(context) == {1, 2, 3}


def test_retry_continues_after_a_batch(
    context: Context, pending: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_RETRY_BATCH", 2)
    assert [job.id for job in retry(context)] == pending


@pytest.mark.usefixtures("pending")
def test_concurrent_retries_are_safe(writer: Client, context: Context) -> None:
    results = at_once([partial(retry, context)] * 4)
    assert {job.monitoring_status for retried in results for job in retried} == {3}
    assert archived(context) == {1, 2, 3}
    assert statuses(writer) == {3}


def test_job_deleted_during_a_retry_is_not_archived(
    admin: Client, context: Context, pending: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_RETRY_BATCH", 1)
    retried = archive.retry(context)
    assert next(retried).id == pending[0]
    admin.send("DELETE", f"/delete_job/{pending[1]}")
    assert [job.id for job in retried] == [pending[2]]
    assert archived(context) == {1, 3}


@pytest.mark.parametrize("by", ["id", "time", "pruning"])
def test_deleted_job_leaves_the_archive_queue(
    admin: Client, context: Context, pending: list[int], by: str
) -> None:
    if by == "id":
        for id_ in pending:
            admin.send("DELETE", f"/delete_job/{id_}")
    elif by == "time":
        admin.send("DELETE", f"/delete_job_before/{START + 1}")
    else:
        assert sum(deletion.prune(context, START + 1, with_unarchived=True)) == 3
    with context.database.connection() as conn:
        assert jobs.list_archive_queue(conn, 0, 9) == []


def test_retry_without_an_archive_is_an_error(context: Context, pending: list[int]) -> None:
    assert pending
    context.archive_root.rename(context.archive_root.with_name("former"))
    context.archive_root.write_text("no directory")
    with pytest.raises(ArchiveError, match="job-archive"):
        retry(context)


def waits_until_released(action: Callable[[], object], release: Callable[[], object]) -> bool:
    """Return whether an action waits until it is released."""
    thread = threading.Thread(target=action)
    thread.start()
    thread.join(0.2)
    waited = thread.is_alive()
    release()
    thread.join(10)
    return waited and not thread.is_alive()


def test_retry_waits_for_the_lock_of_the_job(
    context: Context, database: Database, pending: list[int]
) -> None:
    with database.session() as conn:
        conn.autocommit = False
        assert jobs.lock(conn, pending[0])
        assert waits_until_released(partial(retry, context), conn.commit)
    assert archived(context) == {1, 2, 3}


def test_change_between_stop_and_archiving_is_archived(
    writer: Client, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = writer.start()
    original, tag = archive.archive, [{"type": "Debug", "name": "Testjob"}]

    def late(context: Context, job: Job) -> Job:
        assert writer.twin().send("POST", f"/tag_job/{id_}", tag).status_code == 200
        return original(context, job)

    monkeypatch.setattr(archive, "archive", late)
    assert [plain["name"] for plain in writer.stop()["tags"]] == ["Testjob"]
    path = layout.meta_path(context.archive_root, JobKey("fritz", 123000, START))
    assert b'"tags":[{"type":"Debug","name":"Testjob"}]' in path.read_bytes()
