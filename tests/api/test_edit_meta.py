from functools import partial
from typing import Any

import orjson
import pytest

from ccapi.context import Context
from tests.api.archived import FULL_DISKS, document, fail
from tests.client import START, Client, assert_error, at_once


def edit(client: Client, id_: int, **edits: Any) -> dict[str, str]:
    response = client.send("POST", f"/edit_meta/{id_}", {"metaData": edits})
    assert response.status_code == 200, response.text
    meta_data: dict[str, str] = response.get_json().get("metaData", {})
    return meta_data


def archived_meta_data(context: Context) -> dict[str, str]:
    meta_data: dict[str, str] = orjson.loads(document(context).read_bytes()).get("metaData", {})
    return meta_data


@pytest.fixture
def archived(admin: Client) -> int:
    """A job with metadata that was stopped and archived."""
    id_ = admin.start(metaData={"jobName": "x", "message": "größe"})
    assert admin.stop()["monitoringStatus"] == 3
    return id_


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ({"jobName": "y"}, {"jobName": "y", "message": "größe"}),
        ({"new": ""}, {"jobName": "x", "message": "größe", "new": ""}),
        ({"message": None, "": "a"}, {"jobName": "x", "": "a"}),
        ({"unknown": None}, {"jobName": "x", "message": "größe"}),
        ({"jobName": None, "message": None}, {}),
        ({}, {"jobName": "x", "message": "größe"}),
    ],
    ids=["change", "add", "remove", "remove nothing", "remove all", "nothing"],
)
def test_keys_are_merged_in_database_and_file(
    admin: Client,
    context: Context,
    archived: int,
    edits: dict[str, Any],
    expected: dict[str, str],
) -> None:
    before = orjson.loads(document(context).read_bytes())
    assert edit(admin, archived, **edits) == expected
    assert admin.read(archived).get("metaData", {}) == expected
    after = orjson.loads(document(context).read_bytes())
    assert after.pop("metaData", {}) == expected
    before.pop("metaData")
    assert after == before


def test_answer_is_the_whole_job(admin: Client, archived: int) -> None:
    response = admin.send("PATCH", f"/edit_meta/{archived}", {"metaData": {"a": "b"}})
    assert response.status_code == 200
    assert response.get_json() == admin.read(archived)


def test_metadata_of_a_running_job_is_archived_at_its_stop(admin: Client, context: Context) -> None:
    id_ = admin.start()
    assert edit(admin, id_, jobName="x") == {"jobName": "x"}
    assert not list(context.archive_root.rglob("meta.json"))
    admin.stop()
    assert archived_meta_data(context) == {"jobName": "x"}


def test_concurrent_edits_are_all_merged(admin: Client, context: Context, archived: int) -> None:
    keys = [f"key{number}" for number in range(8)]
    at_once([partial(edit, admin.twin(), archived, **{key: "v"}) for key in keys])
    expected = {"jobName": "x", "message": "größe", **dict.fromkeys(keys, "v")}
    assert admin.read(archived)["metaData"] == expected
    assert archived_meta_data(context) == expected


@FULL_DISKS
def test_failed_write_of_the_file_changes_nothing(
    admin: Client,
    context: Context,
    archived: int,
    monkeypatch: pytest.MonkeyPatch,
    full_disk: tuple[int, str],
) -> None:
    before = (admin.read(archived), document(context).read_bytes())
    with monkeypatch.context() as patched:
        fail(patched, *full_disk)
        response = admin.send("POST", f"/edit_meta/{archived}", {"metaData": {"a": "b"}})
    assert_error(response, 500)
    assert (admin.read(archived), document(context).read_bytes()) == before


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "metaData: is required"),
        ({"metaData": None}, "metaData: is required"),
        ({"metaData": [["a", "b"]]}, "object of strings"),
        ({"metaData": {"a": 1}}, "metaData.a: must be a string"),
        ({"metaData": {"a": {"b": "c"}}}, "metaData.a: must be a string"),
        ({"metaData": {"a": "b\0"}}, "NUL"),
        ({"metaData": {"a\0": None}}, "NUL"),
        ({"METADATA": None}, "metaData: is required"),
        ({"metaData": {}, "metadata": {}}, "same field"),
        ({"jobName": 5}, "metaData.jobName: must be a string"),
        ({"key": 5, "value": "x"}, "metaData.key: must be a string"),
        ({"key": "a", "value": 5}, "metaData.a: must be a string"),
        ({"key": "a\0", "value": "x"}, "NUL"),
        ([{"a": "b"}], "object"),
        (b'{"metaData": {"a": "\\ud800"}}', "JSON"),
        (None, "empty"),
    ],
    ids=str,
)
def test_invalid_edit_changes_nothing(
    admin: Client, context: Context, archived: int, body: Any, words: str
) -> None:
    before = (admin.read(archived), document(context).read_bytes())
    assert_error(admin.send("POST", f"/edit_meta/{archived}", body), 400, words)
    assert (admin.read(archived), document(context).read_bytes()) == before


def test_null_in_the_metadata_of_a_start_is_refused(admin: Client) -> None:
    body = {"jobId": 1, "user": "a", "cluster": "b", "startTime": START,
            "resources": [{"hostname": "c"}], "metaData": {"a": None}}  # fmt: skip
    assert_error(admin.send("POST", "/start_job/", body), 400, "metaData.a")


def test_unknown_job_is_404(admin: Client) -> None:
    assert_error(admin.send("POST", "/edit_meta/999999", {"metaData": {"a": "b"}}), 404, "999999")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"key": "jobName", "value": "y"}, {"jobName": "y", "message": "größe"}),
        ({"Key": "new", "VALUE": ""}, {"jobName": "x", "message": "größe", "new": ""}),
        ({"key": "message", "value": None}, {"jobName": "x"}),
        ({"METADATA": {"message": None}}, {"jobName": "x"}),
        ({"message": None, "a": "b"}, {"jobName": "x", "a": "b"}),
        ({"metaData": None, "a": "b"}, {"jobName": "x", "message": "größe", "a": "b"}),
        ({"key": "y"}, {"jobName": "x", "message": "größe", "key": "y"}),
    ],
    ids=str,
)
def test_every_form_of_an_edit_is_merged(
    writer: Client, context: Context, archived: int, body: Any, expected: dict[str, str]
) -> None:
    response = writer.send("PATCH", f"/edit_meta/{archived}", body)
    assert response.status_code == 200, response.text
    assert response.get_json()["metaData"] == archived_meta_data(context) == expected


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "jobId: is required"),
        ({"jobId": 123000}, "payload: is required"),
        ({"jobId": 123000, "payload": None}, "payload: is required"),
        ({"jobId": 123000, "payload": {}}, "payload.metaData: is required"),
        ({"jobId": 123000, "payload": {"metaData": None}}, "payload.metaData: is required"),
        ({"jobId": 123000, "payload": [{"a": "b"}]}, "payload: must be an object"),
        ({"jobId": "123000", "payload": {"a": "b"}}, "jobId"),
    ],
    ids=str,
)
def test_a_bad_edit_by_request_changes_nothing(
    writer: Client, archived: int, body: Any, words: str
) -> None:
    before = writer.read(archived)
    assert_error(writer.send("PATCH", "/edit_meta/", body), 400, words)
    assert writer.read(archived) == before


def test_an_edit_by_request_prefers_the_running_job(writer: Client, archived: int) -> None:
    running = writer.start(startTime=START + 9000)
    body = {"jobId": 123000, "payload": {"a": "b"}}
    response = writer.send("PATCH", "/edit_meta/", body)
    assert response.get_json()["id"] == running
    writer.start(startTime=START + 99000)
    assert_error(writer.send("PATCH", "/edit_meta/", body), 422, f"id {running} ", "startTime")
    response = writer.send("PATCH", "/edit_meta/", {**body, "startTime": START})
    assert response.get_json()["id"] == archived


def test_editing_needs_the_role_writer(reader: Client, admin: Client, archived: int) -> None:
    for path in (f"/edit_meta/{archived}", "/edit_meta/"):
        assert_error(reader.send("PATCH", path, {"metaData": {"a": "b"}}), 403, "writer")
    assert "a" not in admin.read(archived)["metaData"]
