import os
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import orjson
import pytest

from ccapi.context import Context
from ccapi.db.pool import Database
from tests.api.archived import FULL_DISKS, document, fail
from tests.client import START, Client, assert_error, at_once, count

DEBUG = {"type": "Debug", "name": "Testjob"}
SLOW = {"type": "Performance", "name": "slow"}


def tag(client: Client, id_: int, *tags: Any) -> dict[str, Any]:
    response = client.send("POST", f"/tag_job/{id_}", list(tags))
    assert response.status_code == 200, response.text
    tagged: dict[str, Any] = response.get_json()
    return tagged


def plain(tags: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": tag["type"], "name": tag["name"]} for tag in tags]


def archived_tags(context: Context) -> list[dict[str, Any]]:
    tags: list[dict[str, Any]] = orjson.loads(document(context).read_bytes())["tags"]
    return tags


@pytest.fixture
def archived(writer: Client) -> int:
    """A job that was stopped and archived, without tags."""
    id_ = writer.start()
    assert writer.stop()["monitoringStatus"] == 3
    return id_


def test_answer_has_the_tags_with_ids(writer: Client) -> None:
    id_ = writer.start()
    tagged = tag(writer, id_, DEBUG, SLOW)
    assert plain(tagged["tags"]) == [DEBUG, SLOW]
    assert len({tag["id"] for tag in tagged["tags"]}) == 2
    assert writer.list()[0]["tags"] == tagged["tags"]


def test_answer_is_the_whole_job_with_an_rfc_3339_start(writer: Client) -> None:
    statistics = {"cpu_load": {"unit": "", "avg": 1, "min": 1, "max": 1}}
    id_ = writer.start(
        metaData={"jobName": "x"}, walltime=3600, partition="main", statistics=statistics
    )
    writer.stop()
    tagged = tag(writer, id_)
    assert tagged.pop("startTime") == "2023-11-14T22:13:20Z"
    assert tagged == {
        "id": id_,
        "jobId": 123000,
        "user": "abcd100h",
        "project": "",
        "cluster": "fritz",
        "subCluster": "",
        "shared": "none",
        "partition": "main",
        "walltime": 3600,
        "numNodes": 1,
        "exclusive": 1,
        "jobState": "completed",
        "monitoringStatus": 3,
        "duration": 3600,
        "resources": [{"hostname": "f0101"}],
        "metaData": {"jobName": "x"},
        "tags": [],
    }


@pytest.mark.parametrize(
    ("start", "text"),
    [(1, "1970-01-01T00:00:01Z"), (253_402_300_799, "9999-12-31T23:59:59Z")],
    ids=["first", "last"],
)
def test_every_start_time_has_a_time_stamp(writer: Client, start: int, text: str) -> None:
    assert tag(writer, writer.start(startTime=start))["startTime"] == text


def test_patch_does_the_same(writer: Client) -> None:
    id_ = writer.start()
    response = writer.send("PATCH", f"/tag_job/{id_}", [DEBUG])
    assert response.status_code == 200
    assert plain(writer.list()[0]["tags"]) == [DEBUG]


def test_existing_tag_is_not_added_twice(writer: Client) -> None:
    id_ = writer.start(tags=[DEBUG])
    before = writer.list()[0]["tags"]
    assert tag(writer, id_, DEBUG, DEBUG)["tags"] == before
    assert plain(tag(writer, id_, SLOW, DEBUG, SLOW)["tags"]) == [DEBUG, SLOW]


def test_jobs_share_a_tag(writer: Client, database: Database) -> None:
    first, second = writer.start(tags=[DEBUG]), writer.start(cluster="alex")
    tag(writer, second, DEBUG)
    jobs = writer.list()
    assert {job["id"] for job in jobs} == {first, second}
    assert jobs[0]["tags"] == jobs[1]["tags"]
    assert count(database, "tags") == 1


def test_empty_array_changes_nothing(writer: Client, archived: int, context: Context) -> None:
    before = document(context).read_bytes()
    assert tag(writer, archived)["tags"] == []
    assert document(context).read_bytes() == before


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({"type": "Debug"}, "name"),
        ({"name": "Testjob"}, "type"),
        ({"type": "", "name": "x"}, "type"),
        ({"type": "Debug", "name": None}, "name"),
        ({"type": "Debug", "name": 7}, "name"),
        ({"type": "Debug", "name": "a\0b"}, "name"),
        ({"type": "Debug", "name": "x", "Name": "y"}, "Name"),
    ],
    ids=["no name", "no type", "empty", "null", "number", "NUL", "two spellings"],
)
def test_invalid_tag_adds_none(
    writer: Client, database: Database, bad: dict[str, Any], field: str
) -> None:
    id_ = writer.start()
    assert_error(writer.send("POST", f"/tag_job/{id_}", [SLOW, bad]), 400, field)
    assert writer.list()[0]["tags"] == []
    assert count(database, "tags") == 0


def test_tag_without_an_array_is_refused(writer: Client) -> None:
    id_ = writer.start()
    assert_error(writer.send("POST", f"/tag_job/{id_}", DEBUG), 400, "array")


def test_unknown_job_is_404(writer: Client, database: Database) -> None:
    assert_error(writer.send("POST", "/tag_job/999999", [DEBUG]), 404, "999999")
    assert count(database, "tags") == 0


def test_tag_needs_the_role_writer(reader: Client, writer: Client) -> None:
    id_ = writer.start()
    assert_error(reader.send("POST", f"/tag_job/{id_}", [DEBUG]), 403, "writer")
    assert writer.list()[0]["tags"] == []


def test_file_of_an_archived_job_has_the_tags(
    writer: Client, archived: int, context: Context
) -> None:
    before = orjson.loads(document(context).read_bytes())
    tag(writer, archived, SLOW, DEBUG)
    assert orjson.loads(document(context).read_bytes()) == {**before, "tags": [DEBUG, SLOW]}
    assert [path.name for path in document(context).parent.iterdir()] == ["meta.json"]


def test_tags_of_a_running_job_are_archived_at_its_stop(writer: Client, context: Context) -> None:
    id_ = writer.start()
    tag(writer, id_, DEBUG)
    assert not list(context.archive_root.rglob("meta.json"))
    assert plain(writer.stop()["tags"]) == [DEBUG]
    assert archived_tags(context) == [DEBUG]


def test_job_without_monitoring_gets_no_file(writer: Client, context: Context) -> None:
    id_ = writer.start(monitoringStatus=0)
    writer.stop()
    assert plain(tag(writer, id_, DEBUG)["tags"]) == [DEBUG]
    assert not list(context.archive_root.rglob("meta.json"))


@FULL_DISKS
def test_failed_write_of_the_file_changes_nothing(
    writer: Client,
    archived: int,
    context: Context,
    monkeypatch: pytest.MonkeyPatch,
    full_disk: tuple[int, str],
) -> None:
    before = document(context).read_bytes()
    with monkeypatch.context() as patched:
        fail(patched, *full_disk)
        response = writer.send("POST", f"/tag_job/{archived}", [DEBUG])
    assert_error(response, 500)
    assert str(context.archive_root) not in response.text
    assert writer.list()[0]["tags"] == []
    assert document(context).read_bytes() == before
    assert [path.name for path in document(context).parent.iterdir()] == ["meta.json"]
    assert plain(tag(writer, archived, DEBUG)["tags"]) == [DEBUG]


def test_missing_file_of_an_archived_job_refuses_tags(
    writer: Client, archived: int, context: Context
) -> None:
    document(context).unlink()
    assert_error(writer.send("POST", f"/tag_job/{archived}", [DEBUG]), 500)
    assert writer.list()[0]["tags"] == []
    assert not list(context.archive_root.rglob("meta.json"))


@pytest.fixture
def refused_commits(database: Database) -> Iterator[None]:
    """Let every transaction that adds a tag to a job fail at its very end."""
    with database.session() as conn:
        conn.execute("""
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
            AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
            CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON job_tags
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse();
        """)
    yield
    with database.session() as conn:
        conn.execute("DROP FUNCTION refuse CASCADE")


@pytest.mark.usefixtures("refused_commits")
def test_failed_commit_restores_the_file(writer: Client, archived: int, context: Context) -> None:
    before = document(context).read_bytes()
    assert_error(writer.send("POST", f"/tag_job/{archived}", [DEBUG]), 500)
    assert writer.list()[0]["tags"] == []
    assert document(context).read_bytes() == before


def test_concurrent_tags_are_all_in_database_and_file(
    writer: Client, archived: int, context: Context
) -> None:
    tags = [{"type": "number", "name": f"{number:02}"} for number in range(12)]
    at_once([partial(tag, writer.twin(), archived, one, DEBUG) for one in tags])
    assert plain(writer.list()[0]["tags"]) == [DEBUG, *tags]
    assert archived_tags(context) == [DEBUG, *tags]


def test_new_tag_of_concurrent_requests_is_created_once(writer: Client, database: Database) -> None:
    ids = [writer.start(jobId=number) for number in range(1, 13)]
    at_once([partial(tag, writer.twin(), id_, SLOW, DEBUG) for id_ in ids])
    assert {orjson.dumps(job["tags"]) for job in writer.list()} == {
        orjson.dumps(writer.list()[0]["tags"])
    }
    assert count(database, "tags") == 2


def test_tag_during_archiving_is_in_the_file(
    writer: Client, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = writer.start()
    archiving, tagging = threading.Event(), threading.Event()
    fsync = os.fsync

    def slow_fsync(descriptor: int) -> None:
        if not archiving.is_set():
            archiving.set()
            tagging.wait(0.3)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", slow_fsync)
    stopping = threading.Thread(target=writer.twin().stop)
    stopping.start()
    assert archiving.wait(10)
    tagged = tag(writer, id_, DEBUG)
    tagging.set()
    stopping.join()
    assert (tagged["jobState"], plain(tagged["tags"])) == ("completed", [DEBUG])
    assert archived_tags(context) == [DEBUG]


def test_concurrent_tags_and_stop_agree_in_database_and_file(
    writer: Client, context: Context
) -> None:
    ids = [writer.start(jobId=number) for number in range(1, 9)]
    stops = [partial(writer.twin().stop, jobId=number) for number in range(1, 9)]
    at_once([*stops, *(partial(tag, writer.twin(), id_, DEBUG) for id_ in ids)])
    files = list(context.archive_root.rglob("meta.json"))
    assert [orjson.loads(path.read_bytes())["tags"] for path in files] == 8 * [[DEBUG]]
    assert {job["startTime"] for job in writer.list("state=completed")} == {START}
