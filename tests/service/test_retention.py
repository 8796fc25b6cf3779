"""A job that was pruned from the database is not an orphan; its file is missed if it is gone."""

from collections import Counter
from pathlib import Path

import pytest

from ccapi.archive import layout
from ccapi.context import Context
from ccapi.db.pool import Database
from ccapi.model.job import JobKey
from ccapi.repository import pruned_jobs
from ccapi.service import archive_check, archive_import, archive_repair, deletion
from ccapi.service.archive_check import Finding
from tests.client import START, Client, count

NUM_PRUNED = 12
END = START + 100


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_check, "_RECHECK_DELAY_SECONDS", 0)
    monkeypatch.setattr(archive_check, "_BATCH_SIZE", 5)


@pytest.fixture
def pruned(context: Context, admin: Client) -> list[JobKey]:
    """Prune a dozen jobs of two clusters, keep one, and return the keys of the pruned ones."""
    keys = []
    for number in range(1, NUM_PRUNED + 2):
        cluster = ("fritz", "alex")[number % 2]
        start = START + (number if number <= NUM_PRUNED else 200)
        admin.start(jobId=number * 700, cluster=cluster, startTime=start)
        admin.stop(jobId=number * 700, cluster=cluster, stopTime=start + 1)
        keys.append(JobKey(cluster, number * 700, start))
    assert sum(deletion.prune(context, END)) == NUM_PRUNED
    return keys[:NUM_PRUNED]


def path_of(context: Context, key: JobKey) -> Path:
    return layout.meta_path(context.archive_root, key)


def remove(context: Context, key: JobKey) -> Path:
    path = path_of(context, key)
    path.unlink()
    path.parent.rmdir()
    return path


def kinds(context: Context, *, with_pruned: bool = False) -> Counter[str]:
    root = context.archive_root
    actions = archive_import.import_tree(context, root, with_pruned=with_pruned)
    return Counter(action.kind for action in actions)


def test_check_is_quiet_after_a_prune(context: Context, pruned: list[JobKey]) -> None:
    assert list(archive_check.check(context)) == []
    assert list(archive_repair.repair(context)) == []
    with context.database.connection() as conn:
        assert pruned_jobs.find(conn, pruned) == set(pruned)


@pytest.mark.parametrize("number", [0, 4, 5, NUM_PRUNED - 1])
def test_one_missing_file_among_many_pruned_is_found(
    context: Context, pruned: list[JobKey], number: int
) -> None:
    path = remove(context, pruned[number])
    reason = "was pruned from the database, and the archive had the only copy"
    assert list(archive_check.check(context)) == [Finding("missing", path, reason)]
    [action] = archive_repair.repair(context)
    assert (action.kind, action.path) == ("undecided", path)


def test_orphan_among_many_pruned_is_found(
    context: Context, admin: Client, pruned: list[JobKey]
) -> None:
    admin.send("DELETE", "/delete_job/", {"jobId": (NUM_PRUNED + 1) * 700})
    [finding] = archive_check.check(context)
    assert finding.kind == "orphaned"
    assert pruned


def test_old_jobs_deleted_by_a_request_are_remembered(context: Context, admin: Client) -> None:
    admin.start(jobId=1)
    admin.stop(jobId=1)
    admin.start(jobId=2)
    assert deletion.delete_before(context, START + 1) == 2
    assert list(archive_check.check(context)) == []
    with context.database.connection() as conn:
        assert pruned_jobs.list_after(conn, pruned_jobs.FIRST, 9) == [JobKey("fritz", 1, START)]


def test_import_leaves_pruned_jobs_out(
    context: Context, database: Database, pruned: list[JobKey]
) -> None:
    assert kinds(context) == {"pruned": NUM_PRUNED, "already there": 1}
    assert count(database, "jobs") == 1
    assert pruned


def test_import_brings_pruned_jobs_back_on_request(
    context: Context, database: Database, pruned: list[JobKey]
) -> None:
    assert kinds(context, with_pruned=True) == {"imported": NUM_PRUNED, "already there": 1}
    assert (count(database, "jobs"), count(database, "pruned_jobs")) == (NUM_PRUNED + 1, 0)
    assert list(archive_check.check(context)) == []
    assert sum(deletion.prune(context, END)) == NUM_PRUNED
    assert list(archive_check.check(context)) == []
    assert pruned


def test_pruned_run_that_is_registered_again_can_be_pruned_again(
    context: Context, admin: Client, pruned: list[JobKey]
) -> None:
    cluster, job_id, start = pruned[0]
    admin.start(jobId=job_id, cluster=cluster, startTime=start)
    assert [finding.kind for finding in archive_check.check(context)] == ["broken"]
    admin.stop(jobId=job_id, cluster=cluster, stopTime=start + 5)
    assert list(archive_check.check(context)) == []
    assert sum(deletion.prune(context, END)) == 1
    assert list(archive_check.check(context)) == []


def test_jobs_whose_records_are_discarded_may_leave_the_archive(
    context: Context, pruned: list[JobKey]
) -> None:
    for key in pruned[:3]:
        remove(context, key)
    with context.database.connection() as conn:
        assert pruned_jobs.discard_before(conn, pruned[3].start_time) == 3
    assert list(archive_check.check(context)) == []
