from collections.abc import Iterator
from functools import partial
from typing import Any

import orjson
import pytest

from ccapi.context import Context
from ccapi.db.pool import Database
from ccapi.model.job import Correction
from ccapi.service import archive
from ccapi.service import edits as correcting
from tests.api.archived import FULL_DISKS, document, fail
from tests.client import START, Client, assert_error, at_once, count


def correct(client: Client, id_: int, **end: Any) -> dict[str, Any]:
    response = client.send("POST", f"/correct_job/{id_}", end)
    assert response.status_code == 200, response.text
    job: dict[str, Any] = response.get_json()
    return job


def history(context: Context, id_: int) -> list[tuple[Any, ...]]:
    return [
        (item.old_state, item.old_stop_time, item.new_state, item.new_stop_time)
        for item in corrections(context, id_)
    ]


def corrections(context: Context, id_: int) -> list[Correction]:
    return correcting.history(context, id_)[1]


def file_says(context: Context) -> tuple[str, int]:
    archived = orjson.loads(document(context).read_bytes())
    return archived["jobState"], archived["duration"]


@pytest.fixture
def stopped(admin: Client) -> int:
    """A job that is stopped as completed after an hour, and archived."""
    id_ = admin.start(metaData={"jobName": "x"}, tags=[{"type": "a", "name": "b"}])
    assert admin.stop()["monitoringStatus"] == 3
    return id_


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ({"jobState": "timeout"}, ("timeout", 3600)),
        ({"stopTime": START + 60}, ("completed", 60)),
        ({"jobState": "failed", "stopTime": START}, ("failed", 1)),
        ({"jobState": "failed", "stopTime": None}, ("failed", 3600)),
    ],
    ids=["state", "time", "both", "null"],
)
def test_correction_is_in_database_file_and_history(
    admin: Client,
    context: Context,
    stopped: int,
    end: dict[str, Any],
    expected: tuple[str, int],
) -> None:
    before = orjson.loads(document(context).read_bytes())
    answer = correct(admin, stopped, **end)
    assert (answer["jobState"], answer["duration"]) == expected
    assert admin.read(stopped) == answer
    state, duration = expected
    after = orjson.loads(document(context).read_bytes())
    assert after == {**before, "jobState": state, "duration": duration}
    [(old_state, old_stop, new_state, new_stop)] = history(context, stopped)
    assert (old_state, old_stop) == ("completed", START + 3600)
    assert (new_state, new_stop) == (state, end.get("stopTime") or START + 3600)


def test_history_has_names_and_times_in_order(
    admin: Client, context: Context, stopped: int
) -> None:
    correct(admin, stopped, jobState="failed")
    correct(admin, stopped, jobState="timeout")
    first, second = corrections(context, stopped)
    assert (first.new_state, second.old_state, second.new_state) == ("failed", "failed", "timeout")
    assert {first.corrected_by, second.corrected_by} == {"test-admin"}
    assert first.corrected_at < second.corrected_at


def test_correction_to_the_same_end_leaves_no_trace(
    admin: Client, context: Context, stopped: int
) -> None:
    assert correct(admin, stopped, jobState="completed", stopTime=START + 3600)
    assert history(context, stopped) == []


def test_stop_by_reconciliation_is_in_the_history(admin: Client, context: Context) -> None:
    id_ = admin.start()
    body = {"cluster": "fritz", "asOf": START + 7200, "jobs": []}
    admin.send("POST", "/reconcile/?dry-run=false", body)
    assert history(context, id_) == [("running", None, "stopped", START + 7200)]
    assert corrections(context, id_)[0].corrected_by == "test-admin"


def test_unarchived_job_is_archived_with_its_correction(admin: Client, context: Context) -> None:
    obstacle = context.archive_root / "fritz"
    obstacle.write_text("in the way")
    id_ = admin.start()
    assert admin.stop()["monitoringStatus"] == 2
    assert correct(admin, id_, jobState="timeout")["monitoringStatus"] == 2
    obstacle.unlink()
    assert [job.is_archived for job in archive.retry(context)] == [True]
    assert file_says(context) == ("timeout", 3600)


def test_job_without_monitoring_gets_no_file(admin: Client, context: Context) -> None:
    id_ = admin.start(monitoringStatus=0)
    admin.stop()
    correct(admin, id_, jobState="timeout")
    assert not list(context.archive_root.rglob("meta.json"))


def test_running_job_is_refused(admin: Client, context: Context) -> None:
    id_ = admin.start()
    response = admin.send("POST", f"/correct_job/{id_}", {"jobState": "failed"})
    assert_error(response, 422, f"id {id_}", "stop_job")
    assert admin.list()[0]["jobState"] == "running"
    assert history(context, id_) == []


def test_unknown_job_is_404(admin: Client, database: Database) -> None:
    response = admin.send("POST", "/correct_job/999999", {"jobState": "failed"})
    assert_error(response, 404, "999999")
    assert count(database, "job_corrections") == 0


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "jobState or stopTime"),
        ({"jobState": None}, "jobState or stopTime"),
        ({"jobState": "running"}, "jobState"),
        ({"jobState": 3}, "jobState"),
        ({"jobState": "failed", "stopTime": START - 1}, "startTime"),
        ({"stopTime": "1700000000"}, "stopTime"),
        ({"stopTime": (START + 60) * 1000}, "stopTime"),
        ({"stopTime": True}, "stopTime"),
        ({"startTime": START}, "jobState or stopTime"),
        ([], "object"),
        (None, "empty"),
    ],
    ids=str,
)
def test_invalid_correction_changes_nothing(
    admin: Client, context: Context, stopped: int, body: Any, words: str
) -> None:
    before = (admin.list(), document(context).read_bytes())
    assert_error(admin.send("POST", f"/correct_job/{stopped}", body), 400, words)
    assert (admin.list(), document(context).read_bytes()) == before
    assert history(context, stopped) == []


def test_correction_needs_the_role_admin(writer: Client, admin: Client, stopped: int) -> None:
    response = writer.send("POST", f"/correct_job/{stopped}", {"jobState": "failed"})
    assert_error(response, 403, "admin")
    assert admin.list()[0]["jobState"] == "completed"


@FULL_DISKS
def test_failed_write_of_the_file_changes_nothing(
    admin: Client,
    context: Context,
    stopped: int,
    monkeypatch: pytest.MonkeyPatch,
    full_disk: tuple[int, str],
) -> None:
    before = (admin.list(), document(context).read_bytes())
    with monkeypatch.context() as patched:
        fail(patched, *full_disk)
        response = admin.send("POST", f"/correct_job/{stopped}", {"jobState": "failed"})
    assert_error(response, 500)
    assert (admin.list(), document(context).read_bytes()) == before
    assert history(context, stopped) == []
    assert correct(admin, stopped, jobState="failed")["jobState"] == "failed"


@pytest.fixture
def refused_commits(database: Database) -> Iterator[None]:
    """Let every transaction that corrects a job fail at its very end."""
    with database.session() as conn:
        conn.execute("""
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
            AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
            CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON job_corrections
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse();
        """)
    yield
    with database.session() as conn:
        conn.execute("DROP FUNCTION refuse CASCADE")


@pytest.mark.usefixtures("refused_commits")
def test_failed_commit_restores_the_file(admin: Client, context: Context, stopped: int) -> None:
    before = (admin.list(), document(context).read_bytes())
    assert_error(admin.send("POST", f"/correct_job/{stopped}", {"jobState": "failed"}), 500)
    assert (admin.list(), document(context).read_bytes()) == before


def test_concurrent_corrections_are_serialized(
    admin: Client, context: Context, stopped: int
) -> None:
    times = range(START + 1, START + 9)
    at_once([partial(correct, admin.twin(), stopped, stopTime=time) for time in times])
    steps = history(context, stopped)
    assert sorted(new for *_, new in steps) == list(times)
    assert [old for _, old, *_ in steps] == [START + 3600, *(new for *_, new in steps[:-1])]
    assert file_says(context) == ("completed", steps[-1][3] - START)
    assert admin.list()[0]["duration"] == steps[-1][3] - START


def test_history_is_deleted_with_its_job(admin: Client, database: Database, stopped: int) -> None:
    correct(admin, stopped, jobState="failed")
    assert admin.send("DELETE", f"/delete_job/{stopped}").status_code == 200
    assert count(database, "job_corrections") == 0
