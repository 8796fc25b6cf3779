"""Tags that no job has are deleted with old jobs, and no start loses a tag by that."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from ccapi.context import Context
from ccapi.db.pool import Database
from ccapi.service import deletion
from tests.client import START, Client, job

TAG = {"type": "a", "name": "b"}
OTHER = {"type": "a", "name": "c"}
WAITING = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


def tags(database: Database) -> list[str]:
    with database.session() as conn:
        return [name for (name,) in conn.execute("SELECT name FROM tags ORDER BY name")]


def await_lock(database: Database, request: Future[Any]) -> None:
    """Wait until the request waits for a lock."""
    deadline = time.monotonic() + 60
    with database.session() as conn:
        while conn.execute(WAITING).fetchone() is None:
            assert not request.done()
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize("is_pruned", [True, False])
def test_old_jobs_leave_no_unused_tags(
    admin: Client, database: Database, context: Context, *, is_pruned: bool
) -> None:
    old = admin.start(jobId=1, tags=[TAG, OTHER])
    admin.send("POST", f"/stop_job/{old}", {"stopTime": START + 9, "jobState": "failed"})
    admin.start(jobId=2, startTime=START + 100, tags=[TAG])
    assert tags(database) == ["b", "c"]
    if is_pruned:
        assert sum(deletion.prune(context, START + 50)) == 1
    else:
        assert deletion.delete_before(context, START + 50) == 1
    assert tags(database) == ["b"]


@pytest.mark.parametrize("is_start", [True, False])
def test_tag_that_is_deleted_meanwhile_is_created_again(
    admin: Client, database: Database, *, is_start: bool
) -> None:
    id_ = admin.start(jobId=1, tags=[TAG])
    admin.send("DELETE", f"/tag_job/{id_}", [TAG])
    with ThreadPoolExecutor(1) as client:
        with database.transaction() as conn:
            conn.execute("DELETE FROM tags")
            path = "/start_job/" if is_start else f"/tag_job/{id_}"
            body: Any = job(jobId=2, tags=[TAG]) if is_start else [TAG]
            request = client.submit(admin.send, "POST", path, body)
            await_lock(database, request)
        response = request.result()
    assert response.status_code == (201 if is_start else 200), response.text
    assert len(admin.list("tag=a:b")) == 1


def test_tag_that_a_start_uses_is_not_deleted(
    admin: Client, database: Database, context: Context
) -> None:
    id_ = admin.start(jobId=1, tags=[TAG, OTHER])
    admin.send("DELETE", f"/tag_job/{id_}", [TAG, OTHER])
    with database.transaction() as conn:
        conn.execute("SELECT FROM tags WHERE name = 'b' FOR KEY SHARE")
        deletion.delete_before(context, START)
    assert tags(database) == ["b"]
