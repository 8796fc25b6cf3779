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
    """Puts a file in the way of the cluster fritz until it ends."""

    def __init__(self, root: Path) -> None:
        self._obstacle = root / "fritz"
        self._obstacle.write_text("in the way")

    def end(self) -> None:
        self._obstacle.unlink()


@pytest.fixture
def left_over(writer: Client, context: Context) -> list[int]:
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


def cut_off(database: Database) -> None:
    """Leave jobs that failed as if the service had died before it could note that."""
    with database.connection() as conn:
        conn.execute("UPDATE archive_queue SET has_failed = false")


def test_a_retry_archives_what_is_left(
    writer: Client, context: Context, left_over: list[int]
) -> None:
    retried = retry(context)
    assert [(job.id, job.monitoring_status) for job in retried] == [(id_, 3) for id_ in left_over]
    assert archived(context) == {1, 2, 3}
    assert statuses(writer) == {3}
    assert retry(context) == []


def test_a_retry_writes_what_the_stop_would_have_written(
    writer: Client, context: Context, left_over: list[int]
) -> None:
    writer.send("POST", f"/tag_job/{left_over[0]}", [{"type": "Debug", "name": "Testjob"}])
    retry(context)
    with context.database.connection() as conn:
        job = jobs.get(conn, left_over[0])
    assert job is not None
    path = layout.meta_path(context.archive_root, JobKey("fritz", 1, START))
    assert path.read_bytes() == meta_json.encode(job)
    assert b'"tags":[{"type":"Debug","name":"Testjob"}]' in path.read_bytes()


def test_a_retry_finds_a_job_whose_archiving_was_cut_off(
    writer: Client, context: Context, database: Database
) -> None:
    outage = Outage(context.archive_root)
    id_ = writer.start()
    writer.stop()
    outage.end()
    cut_off(database)
    assert statuses(writer) == {1}
    assert [job.id for job in retry(context)] == [id_]
    assert archived(context) == {123000}


def test_a_retry_leaves_running_and_unwanted_and_archived_jobs_alone(
    writer: Client, context: Context
) -> None:
    writer.start(jobId=1)
    for number, status in ((2, 0), (3, 1)):
        writer.start(jobId=number, monitoringStatus=status)
        writer.stop(jobId=number)
    assert retry(context) == []
    assert archived(context) == {3}


def test_a_retry_that_fails_says_so_and_can_be_retried(
    writer: Client,
    context: Context,
    left_over: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    outage = Outage(context.archive_root)
    assert [job.monitoring_status for job in retry(context)] == [2, 2, 2]
    assert statuses(writer) == {2}
    assert all(f"id {id_}" in caplog.text for id_ in left_over)
    outage.end()
    assert [job.monitoring_status for job in retry(context)] == [3, 3, 3]


def test_one_job_that_fails_does_not_keep_the_others(writer: Client, context: Context) -> None:
    outage = Outage(context.archive_root)
    for number, cluster in enumerate(("fritz", "alex", "fritz"), 1):
        writer.start(jobId=number, cluster=cluster)
        writer.stop(jobId=number)
    assert [job.monitoring_status for job in retry(context)] == [2, 2]
    assert archived(context) == {2}
    outage.end()
    retry(context)
    assert archived(context) == {1, 2, 3}


def test_a_retry_goes_on_after_a_batch(
    context: Context, left_over: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_BATCH_SIZE", 2)
    assert [job.id for job in retry(context)] == left_over


@pytest.mark.usefixtures("left_over")
def test_several_retries_at_once_are_safe(writer: Client, context: Context) -> None:
    results = at_once([partial(retry, context)] * 4)
    assert {job.monitoring_status for retried in results for job in retried} == {3}
    assert archived(context) == {1, 2, 3}
    assert statuses(writer) == {3}


def test_a_retry_passes_over_a_job_that_is_deleted_meanwhile(
    admin: Client, context: Context, left_over: list[int]
) -> None:
    retried = archive.retry(context)
    assert next(retried).id == left_over[0]
    admin.send("DELETE", f"/delete_job/{left_over[1]}")
    assert [job.id for job in retried] == [left_over[2]]
    assert archived(context) == {1, 3}


@pytest.mark.parametrize("by", ["id", "time", "pruning"])
def test_a_deleted_job_is_archived_no_more(
    admin: Client, context: Context, left_over: list[int], by: str
) -> None:
    if by == "id":
        for id_ in left_over:
            admin.send("DELETE", f"/delete_job/{id_}")
    elif by == "time":
        admin.send("DELETE", f"/delete_job_before/{START + 1}")
    else:
        assert sum(deletion.prune(context, START + 1, with_unarchived=True)) == 3
    with context.database.connection() as conn:
        assert jobs.list_archive_queue(conn, 0, 9) == []


def test_a_retry_needs_an_archive(context: Context, left_over: list[int]) -> None:
    assert left_over
    context.archive_root.rename(context.archive_root.with_name("former"))
    context.archive_root.write_text("no directory")
    with pytest.raises(ArchiveError, match="job-archive"):
        retry(context)


def waits_until_released(action: Callable[[], object], release: Callable[[], object]) -> bool:
    """Tell whether an action is still going on until it is released."""
    thread = threading.Thread(target=action)
    thread.start()
    thread.join(0.2)
    waited = thread.is_alive()
    release()
    thread.join(10)
    return waited and not thread.is_alive()


def test_a_retry_waits_for_who_works_on_the_job(
    context: Context, database: Database, left_over: list[int]
) -> None:
    with database.session() as conn:
        conn.autocommit = False
        assert jobs.lock(conn, left_over[0])
        assert waits_until_released(partial(retry, context), conn.commit)
    assert archived(context) == {1, 2, 3}


def test_what_changes_between_the_stop_and_the_file_is_in_it(
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
