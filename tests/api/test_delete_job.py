import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ccapi.cli.deploy import derive
from ccapi.config.settings import Config
from ccapi.context import Context
from ccapi.db.pool import Database
from ccapi.repository import deletion as repository
from ccapi.repository import jobs
from ccapi.service import deletion
from tests.client import START, Client, assert_error, at_once, count


def delete(client: Client, **body: Any) -> str:
    response = client.send("DELETE", "/delete_job/", {"jobId": 123000, **body})
    assert response.status_code == 200, response.text
    assert set(response.get_json()) == {"msg"}
    return str(response.get_json()["msg"])


def delete_before(client: Client, time: int) -> str:
    response = client.send("DELETE", f"/delete_job_before/{time}")
    assert response.status_code == 200, response.text
    assert set(response.get_json()) == {"msg"}
    return str(response.get_json()["msg"])


def ids(client: Client) -> set[int]:
    return {job["id"] for job in client.list("items-per-page=1000")}


def tree(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def start_many(client: Client, number: int) -> list[int]:
    return [client.start(jobId=n, startTime=START + n) for n in range(1, number + 1)]


def test_job_is_deleted_by_selection(admin: Client) -> None:
    id_, other = admin.start(), admin.start(jobId=5)
    assert str(id_) in delete(admin)
    assert ids(admin) == {other}


def test_job_is_deleted_by_database_id(admin: Client) -> None:
    id_, other = admin.start(), admin.start(jobId=5)
    response = admin.send("DELETE", f"/delete_job/{id_}")
    assert response.status_code == 200
    assert str(id_) in response.get_json()["msg"]
    assert ids(admin) == {other}


def test_tags_are_deleted_with_their_only_job(admin: Client) -> None:
    tags = [{"type": "Debug", "name": "Testjob"}]
    admin.start(tags=tags)
    other = admin.start(jobId=5, tags=tags)
    delete(admin)
    assert [(job["id"], len(job["tags"])) for job in admin.list()] == [(other, 1)]


@pytest.mark.parametrize(
    ("selection", "deleted"),
    [
        ({"cluster": "alex"}, 1),
        ({"cluster": "fritz", "startTime": START}, 0),
        ({"startTime": START + 7200}, 2),
    ],
    ids=["cluster", "cluster and startTime", "startTime"],
)
def test_cluster_and_start_time_narrow_the_selection(
    admin: Client, selection: dict[str, Any], deleted: int
) -> None:
    started = [admin.start(), admin.start(cluster="alex"), admin.start(startTime=START + 7200)]
    delete(admin, **selection)
    assert ids(admin) == set(started) - {started[deleted]}


@pytest.mark.parametrize("finished", [False, True], ids=["both running", "one finished"])
def test_several_matches_are_listed_and_not_deleted(admin: Client, *, finished: bool) -> None:
    first, second = admin.start(), admin.start(startTime=START + 7200)
    if finished:
        admin.stop(startTime=START)
    response = admin.send("DELETE", "/delete_job/", {"jobId": 123000})
    assert_error(response, 422, f"id {first} ", f"id {second} ", "cluster or startTime")
    assert ids(admin) == {first, second}


@pytest.mark.parametrize(
    "selection",
    [{"jobId": 5}, {"cluster": "alex"}, {"startTime": START + 1}],
    ids=["other jobId", "other cluster", "other startTime"],
)
def test_selection_without_match_is_refused(admin: Client, selection: dict[str, Any]) -> None:
    id_ = admin.start()
    response = admin.send("DELETE", "/delete_job/", {"jobId": 123000, **selection})
    assert_error(response, 422, "finding job failed")
    assert ids(admin) == {id_}


def test_selection_without_job_id_is_refused(admin: Client) -> None:
    admin.start()
    assert_error(admin.send("DELETE", "/delete_job/", {"cluster": "fritz"}), 400, "jobId")
    assert len(ids(admin)) == 1


def test_unknown_database_id_is_refused(admin: Client) -> None:
    id_ = admin.start()
    admin.send("DELETE", f"/delete_job/{id_}")
    assert_error(admin.send("DELETE", f"/delete_job/{id_}"), 422, str(id_))


@pytest.mark.parametrize("by", ["request", "id"])
def test_concurrent_deletion_of_a_job_succeeds_once(
    admin: Client, database: Database, by: str
) -> None:
    id_ = admin.start()
    path, body = (
        ("/delete_job/", {"jobId": 123000}) if by == "request" else (f"/delete_job/{id_}", None)
    )
    with ThreadPoolExecutor() as pool, database.session() as conn, conn.transaction():
        assert repository.delete(conn, id_)
        response = pool.submit(admin.twin().send, "DELETE", path, body)
        with pytest.raises(TimeoutError):
            response.result(0.1)
    assert_error(response.result(), 422, "finding job failed", str(id_))


@pytest.mark.parametrize(
    "path",
    ["/delete_job/", "/delete_job/{id}", "/delete_job_before/{id}"],
    ids=["by request", "by id", "before"],
)
def test_deletion_needs_the_role_admin(writer: Client, reader: Client, path: str) -> None:
    id_ = writer.start(startTime=1)
    for client in (writer, reader):
        response = client.send("DELETE", path.format(id=id_), {"jobId": 123000})
        assert_error(response, 403, "admin")
    assert ids(reader) == {id_}


def test_jobs_before_a_time_are_deleted(admin: Client) -> None:
    admin.start(startTime=START - 1)
    admin.start(jobId=5, startTime=1)
    remaining = {admin.start(jobId=6), admin.start(jobId=7, startTime=START + 1)}
    assert "2" in delete_before(admin, START)
    assert ids(admin) == remaining


def test_jobs_before_a_time_are_deleted_in_any_state(admin: Client) -> None:
    for number, state in enumerate(("completed", "failed", "out_of_memory"), 1):
        admin.start(jobId=number)
        admin.stop(jobId=number, jobState=state)
    admin.start(jobId=9)
    assert delete_before(admin, START + 1) == (f"deleted 4 jobs that started before {START + 1}")
    assert ids(admin) == set()


def test_message_has_the_singular_for_one_job(admin: Client) -> None:
    admin.start()
    assert delete_before(admin, START + 1).startswith("deleted 1 job that")


@pytest.mark.parametrize("time", [-(2**63) + 1, 0, START, 2**63 - 1])
def test_deletion_of_zero_jobs_succeeds(admin: Client, time: int) -> None:
    assert delete_before(admin, time).startswith("deleted 0 jobs")


@pytest.mark.parametrize("time", ["yesterday", "1e9", str(2**63)])
def test_time_that_is_not_an_integer_is_refused(admin: Client, time: str) -> None:
    id_ = admin.start()
    assert_error(admin.send("DELETE", f"/delete_job_before/{time}"), 400, "ts")
    assert ids(admin) == {id_}


@pytest.mark.parametrize("query", ["omit-tags=true", "omit-tagged=yes", "omit_tagged=1"])
def test_a_wrong_parameter_deletes_nothing(admin: Client, query: str) -> None:
    id_ = admin.start()
    response = admin.send("DELETE", f"/delete_job_before/{START + 1}?{query}")
    assert_error(response, 400, query.partition("=")[0])
    assert ids(admin) == {id_}


@pytest.mark.parametrize("query", ["omit-tagged=true", "omit-tagged", "omit-tagged=1"])
def test_tagged_jobs_can_be_kept(admin: Client, query: str) -> None:
    tagged = admin.start(tags=[{"type": "a", "name": "b"}])
    admin.start(jobId=5)
    response = admin.send("DELETE", f"/delete_job_before/{START + 1}?{query}")
    assert response.get_json()["msg"].startswith("deleted 1 job that")
    assert ids(admin) == {tagged}
    assert delete_before(admin, START + 1).startswith("deleted 1 job that")


def test_archive_is_never_touched(admin: Client, tmp_path: Path) -> None:
    started = [admin.start(jobId=number) for number in (1, 2, 3)]
    for number in (1, 2, 3):
        admin.stop(jobId=number)
    before = tree(tmp_path)
    assert sum(path.name == "meta.json" for path in before) == 3
    delete(admin, jobId=1)
    admin.send("DELETE", f"/delete_job/{started[1]}")
    delete_before(admin, START + 1)
    assert ids(admin) == set()
    assert tree(tmp_path) == before


def test_many_jobs_are_deleted_in_batches(
    admin: Client, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second batch has to wait for a row; by then the first one is gone for everybody."""
    monkeypatch.setattr(deletion, "BATCH_SIZE", 3)
    started = start_many(admin, 8)
    messages: list[str] = []
    with database.session() as conn, conn.transaction():
        assert jobs.lock(conn, started[4])
        request = threading.Thread(
            target=lambda: messages.append(delete_before(admin.twin(), START + 100))
        )
        request.start()
        deadline = time.monotonic() + 3
        while len(left := ids(admin)) == 8 and time.monotonic() < deadline:
            time.sleep(0.01)
    request.join()
    assert left == set(started[3:])
    assert messages == [f"deleted 8 jobs that started before {START + 100}"]
    assert ids(admin) == set()


@pytest.fixture
def in_slow_batches_of_3(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a batch take a tenth of a second."""
    real = repository.delete_before

    def slowly(*args: Any, **kwargs: Any) -> repository.DeletedBatch:
        time.sleep(0.1)
        return real(*args, **kwargs)

    monkeypatch.setattr(repository, "delete_before", slowly)
    monkeypatch.setattr(deletion, "BATCH_SIZE", 3)


@pytest.mark.usefixtures("in_slow_batches_of_3")
def test_deletion_pauses_as_long_as_each_batch_took(admin: Client, context: Context) -> None:
    start_many(admin, 6)
    begun = time.monotonic()
    assert deletion.delete_before(context, START + 100) == 6
    # Two batches that delete, one that finds no more, and one from the beginning.
    assert time.monotonic() - begun >= 4 * 0.2


@pytest.mark.usefixtures("in_slow_batches_of_3")
def test_deletion_that_takes_too_long_reports_its_progress(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion, "_MAX_SECONDS", 0.3)
    start_many(admin, 8)
    response = admin.send("DELETE", f"/delete_job_before/{START + 100}")
    assert_error(response, 503, "deleted 6 jobs", "there may be more", "again", "ccapi jobs prune")
    assert int(response.headers["Retry-After"]) > 0
    assert len(ids(admin)) == 2
    monkeypatch.undo()
    assert delete_before(admin, START + 100).startswith("deleted 2 jobs")


def test_deletion_ends_before_gunicorns_timeout() -> None:
    deployed = derive(
        Config(), {"https_port": 443, "workers": 2, "readers": 2, "socket": "ccapi.sock"}
    )
    assert deployed["timeout"] >= deletion._MAX_SECONDS + 10


def test_starts_and_stops_go_on_during_a_deletion(admin: Client, database: Database) -> None:
    start_many(admin, 5)
    running = admin.start(jobId=90, startTime=START + 90)
    with database.session() as conn, conn.transaction():
        assert repository.delete_before(conn, START + 50, 1000).deleted == 5
        begun = time.monotonic()
        started = admin.start(jobId=91, startTime=START + 91)
        again = admin.start(jobId=3, startTime=START + 9000)
        admin.stop(jobId=90)
        admin.send("POST", f"/tag_job/{started}", [{"type": "Debug", "name": "Testjob"}])
        assert time.monotonic() - begun < 2
    assert ids(admin) == {running, started, again}


def test_deletion_does_not_wait_for_an_uncommitted_start(admin: Client, database: Database) -> None:
    admin.start()
    with database.session() as conn, conn.transaction():
        conn.execute("""
            INSERT INTO jobs (job_id, start_time, num_nodes, exclusive, monitoring_status,
                              cluster, sub_cluster, user_name, project, resources)
            VALUES (7, 1, 1, 1, 1, 'fritz', '', 'abcd100h', '', '[{"hostname": "f0101"}]')
        """)
        assert delete_before(admin, START + 1).startswith("deleted 1 job")
    assert [job["jobId"] for job in admin.list()] == [7]


def test_concurrent_deletions_count_each_job_once(
    admin: Client, context: Context, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion, "BATCH_SIZE", 10)
    start_many(admin, 60)
    counted = at_once([partial(deletion.delete_before, context, START + 100)] * 3)
    assert sum(counted) == 60
    assert count(database, "jobs") == 0


def test_concurrent_deletion_ends_when_no_job_is_left(
    context: Context, admin: Client, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one holds the rows of the first batch until it has chosen them, too."""
    monkeypatch.setattr(deletion, "BATCH_SIZE", 3)
    start_many(admin, 5)
    left: list[int] = []

    def delete() -> None:
        deletion.delete_before(context, START + 100)
        left.append(count(database, "jobs"))

    request = threading.Thread(target=delete)
    with database.session() as conn, conn.transaction():
        assert repository.delete_before(conn, START + 100, 3).deleted == 3
        request.start()
        time.sleep(0.3)
    request.join()
    assert left == [0]


def test_deletion_continues_behind_jobs_that_are_gone(
    context: Context, admin: Client, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ccapi jobs prune` and delete_job do not queue up behind it: a whole batch may be gone."""
    monkeypatch.setattr(deletion, "BATCH_SIZE", 3)
    started = start_many(admin, 5)
    request = threading.Thread(target=deletion.delete_before, args=(context, START + 100))
    with database.session() as conn, conn.transaction():
        conn.execute("DELETE FROM jobs WHERE id = ANY (%s)", [started[:3]])
        request.start()
        time.sleep(0.3)
    request.join()
    assert count(database, "jobs") == 0
