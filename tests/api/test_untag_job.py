from functools import partial
from typing import Any

import orjson
import pytest

from ccapi.context import Context
from tests.api.archived import FULL_DISKS, document, fail
from tests.client import Client, assert_error, at_once

DEBUG = {"type": "Debug", "name": "Testjob"}
SLOW = {"type": "Performance", "name": "slow"}


def untag(client: Client, id_: int, *tags: Any) -> list[dict[str, Any]]:
    response = client.send("DELETE", f"/tag_job/{id_}", list(tags))
    assert response.status_code == 200, response.text
    return plain(response.get_json()["tags"])


def plain(tags: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": tag["type"], "name": tag["name"]} for tag in tags]


def listed_tags(client: Client) -> list[dict[str, Any]]:
    return plain(client.list()[0]["tags"])


def archived_tags(context: Context) -> list[dict[str, Any]]:
    tags: list[dict[str, Any]] = orjson.loads(document(context).read_bytes())["tags"]
    return tags


@pytest.fixture
def archived(admin: Client) -> int:
    """A job with two tags that was stopped and archived."""
    id_ = admin.start(tags=[DEBUG, SLOW])
    assert admin.stop()["monitoringStatus"] == 3
    return id_


@pytest.mark.parametrize(
    ("removed", "left"),
    [
        ([DEBUG], [SLOW]),
        ([SLOW, DEBUG, SLOW], []),
        ([{"type": "Debug", "name": "slow"}, DEBUG], [SLOW]),
        ([{"type": "Debug", "name": "unknown"}], [DEBUG, SLOW]),
        ([], [DEBUG, SLOW]),
    ],
    ids=["one", "all, one twice", "and another tag", "unknown", "none"],
)
def test_tags_are_removed_from_database_and_file(
    admin: Client,
    context: Context,
    archived: int,
    removed: list[dict[str, str]],
    left: list[dict[str, str]],
) -> None:
    before = orjson.loads(document(context).read_bytes())
    assert untag(admin, archived, *removed) == left
    assert listed_tags(admin) == left
    assert orjson.loads(document(context).read_bytes()) == {**before, "tags": left}


def test_answer_has_the_form_of_tag_job(admin: Client, archived: int) -> None:
    removed = admin.send("DELETE", f"/tag_job/{archived}", [DEBUG]).get_json()
    assert removed == admin.send("POST", f"/tag_job/{archived}", [SLOW]).get_json()


def test_other_jobs_keep_the_tag(admin: Client) -> None:
    first, second = (admin.start(jobId=number, tags=[DEBUG]) for number in (1, 2))
    untag(admin, first, DEBUG)
    assert plain(admin.read(second)["tags"]) == [DEBUG]
    assert admin.read(first)["tags"] == []


def test_removed_tag_can_be_added_again(admin: Client, context: Context, archived: int) -> None:
    untag(admin, archived, DEBUG)
    admin.send("POST", f"/tag_job/{archived}", [DEBUG])
    assert listed_tags(admin) == archived_tags(context) == [DEBUG, SLOW]


def test_concurrent_changes_agree_in_database_and_file(
    admin: Client, context: Context, archived: int
) -> None:
    new = [{"type": "number", "name": str(number)} for number in range(6)]
    adding = [partial(admin.twin().send, "POST", f"/tag_job/{archived}", [tag]) for tag in new]
    removing = [
        partial(admin.twin().send, "DELETE", f"/tag_job/{archived}", [tag]) for tag in (DEBUG, SLOW)
    ]
    assert {answer.status_code for answer in at_once(adding + removing)} == {200}
    assert listed_tags(admin) == archived_tags(context) == new


@FULL_DISKS
def test_failed_write_of_the_file_changes_nothing(
    admin: Client,
    context: Context,
    archived: int,
    monkeypatch: pytest.MonkeyPatch,
    full_disk: tuple[int, str],
) -> None:
    with monkeypatch.context() as patched:
        fail(patched, *full_disk)
        response = admin.send("DELETE", f"/tag_job/{archived}", [DEBUG])
    assert_error(response, 500)
    assert listed_tags(admin) == archived_tags(context) == [DEBUG, SLOW]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (DEBUG, "array"),
        ([{"type": "Debug"}], "name"),
        ([DEBUG, {"type": "Debug", "name": 7}], "name"),
        ([{"id": 1}], "type"),
        ([DEBUG, None], "object"),
        (None, "empty"),
    ],
    ids=str,
)
def test_invalid_body_removes_nothing(admin: Client, archived: int, body: Any, words: str) -> None:
    assert_error(admin.send("DELETE", f"/tag_job/{archived}", body), 400, words)
    assert listed_tags(admin) == [DEBUG, SLOW]


def test_unknown_job_is_404(admin: Client) -> None:
    assert_error(admin.send("DELETE", "/tag_job/999999", [DEBUG]), 404, "999999")


def test_untag_needs_the_role_admin(writer: Client, admin: Client, archived: int) -> None:
    assert_error(writer.send("DELETE", f"/tag_job/{archived}", [DEBUG]), 403, "admin")
    assert listed_tags(admin) == [DEBUG, SLOW]
