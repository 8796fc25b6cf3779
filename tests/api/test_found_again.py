"""What a start may contain, the filters of a list find again."""

from urllib.parse import quote

import pytest

from tests.client import Client

NAMES = [
    "a\tb", "a\u00a0b", "a\u200bb", " a", "a ", "a\nb", "ä", "a:b", "a,b", "a-b", "a%b", "a+b",
    "!a", "0-5", "\ufffd", "\u202ea", "'", '"', "\\", "null", "\x7f", "a" * 200,
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_filter_finds_each_name_that_a_start_may_have(writer: Client, name: str) -> None:
    id_ = writer.start(
        user=name, project=name, partition=name, tags=[{"type": name, "name": name}],
        metaData={"jobName": name},
    )  # fmt: skip
    writer.start(jobId=2, user="other")
    text = quote(name, safe="")
    for query in (
        f"user={text}", f"project={text}", f"partition={text}", f"name={text}",
        f"tag={text}:{text}",
    ):  # fmt: skip
        assert [job["id"] for job in writer.list(query)] == [id_], query
    assert [job["jobId"] for job in writer.list(f"not-tag={text}:{text}")] == [2]


def test_a_tag_is_found_whatever_its_colons_separate(writer: Client) -> None:
    first = writer.start(jobId=1, tags=[{"type": "a:b", "name": "c"}])
    second = writer.start(jobId=2, tags=[{"type": "a", "name": "b:c"}])
    writer.start(jobId=3, tags=[{"type": "a", "name": "b"}])
    assert {job["id"] for job in writer.list("tag=a:b:c")} == {first, second}


@pytest.mark.parametrize("text", ["%00", "%ff", "%ed%a0%80"])
def test_what_no_start_may_have_is_no_5xx(writer: Client, text: str) -> None:
    for query in (f"user={text}", f"tag=a:{text}", f"name={text}"):
        assert writer.send("GET", f"/?{query}").status_code in {200, 400}
