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
        ({"jobName": "x"}, "jobName"),
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


def test_edit_needs_the_role_admin(writer: Client, admin: Client, archived: int) -> None:
    response = writer.send("POST", f"/edit_meta/{archived}", {"metaData": {"a": "b"}})
    assert_error(response, 403, "admin")
    assert "a" not in admin.read(archived)["metaData"]
