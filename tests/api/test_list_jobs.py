"""List jobs: which, in which order, how much of each; and lists of any length."""

import time
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from werkzeug.test import TestResponse

from ccapi.db.pool import Database
from ccapi.model.job import JobState
from tests.client import START, Client, assert_error, job, stop

_MAX = 2**63 - 1
# More than the stream reads at a time, twice.
_MANY = 620


@pytest.fixture
def many(database: Database) -> int:
    """Register many jobs, some at the same time, in an order that is not that of their ids."""
    _fill(database, _MANY)
    return _MANY


def _fill(database: Database, number: int) -> None:
    with database.session() as conn:
        conn.execute(
            """
            INSERT INTO jobs (job_id, start_time, num_nodes, exclusive, monitoring_status,
                              cluster, sub_cluster, user_name, project, resources)
            SELECT n, %(start)s + n * 7919 %% 1009 %% 207, 1, 1, 1,
                   'fritz', '', 'abcd100h', '', '[{"hostname":"f0101"}]'
            FROM generate_series(1, %(number)s) AS n
            """,
            {"start": START, "number": number},
        )


def _nothing(page: int = 1) -> dict[str, Any]:
    return {"jobs": [], "items": 0, "page": page, "nextCursor": ""}


def _keys(jobs: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(job["startTime"], job["id"]) for job in jobs]


def _ids(jobs: list[dict[str, Any]]) -> list[int]:
    return [job["id"] for job in jobs]


def test_list_without_jobs_is_empty(reader: Client) -> None:
    assert reader.send("GET", "/").get_json() == _nothing()


def test_list_has_latest_start_first_then_latest_id(admin: Client) -> None:
    old = admin.start(jobId=1, startTime=START)
    new = admin.start(jobId=2, startTime=START + 9)
    tie = admin.start(jobId=3, startTime=START)
    assert _ids(admin.list()) == [new, tie, old]


def test_duration_of_a_running_job_ends_now(admin: Client) -> None:
    admin.start(startTime=int(time.time()) - 1000)
    assert 1000 <= admin.list()[0]["duration"] < 1100


def test_duration_of_a_stopped_job_ends_at_its_stop(admin: Client) -> None:
    admin.start()
    admin.stop(stopTime=START + 42)
    assert admin.list()[0]["duration"] == 42


@pytest.mark.parametrize("stopped", [True, False])
def test_duration_is_at_least_a_second(admin: Client, *, stopped: bool) -> None:
    admin.start(startTime=START if stopped else int(time.time()) + 5000)
    if stopped:
        admin.stop(stopTime=START)
    assert admin.list()[0]["duration"] == 1


@pytest.fixture
def various(admin: Client) -> dict[str, int]:
    """Register a job in each state on two clusters, 100 s apart; return ids by what they are."""
    ids: dict[str, int] = {}
    for n, cluster in enumerate(("alex", "fritz")):
        for m, state in enumerate(JobState):
            start = START + 100 * (len(JobState) * n + m)
            id_ = admin.start(jobId=m + 1, cluster=cluster, startTime=start, monitoringStatus=0)
            if state is not JobState.RUNNING:
                admin.send("POST", f"/stop_job/{id_}", stop(jobState=state, stopTime=start + 5))
            ids[f"{cluster} {state}"] = id_
    return ids


def _expect(various: dict[str, int], *words: str) -> list[int]:
    """Give the ids, latest first, of the jobs that are what any of the words says."""
    return [i for what, i in reversed(various.items()) if any(word in what for word in words)]


@pytest.mark.parametrize("state", JobState)
def test_state_selects_its_jobs(admin: Client, various: dict[str, int], state: str) -> None:
    listed = admin.list(f"state={state}")
    assert _ids(listed) == _expect(various, f" {state}")
    assert {job["jobState"] for job in listed} == {state}


def test_repeated_states_select_jobs_of_any(admin: Client, various: dict[str, int]) -> None:
    ids = _ids(admin.list("state=running&state=out_of_memory&state=failed&state=running"))
    assert ids == _expect(various, "running", "out_of_memory", "failed")


def test_all_states_select_every_job(admin: Client, various: dict[str, int]) -> None:
    every = "&".join(f"state={state}" for state in JobState)
    assert _ids(admin.list(every)) == _expect(various, "")


def test_cluster_selects_its_jobs(admin: Client, various: dict[str, int]) -> None:
    assert _ids(admin.list("cluster=alex")) == _expect(various, "alex")


def test_cluster_without_jobs_has_an_empty_list(admin: Client, various: dict[str, int]) -> None:
    assert various
    assert admin.list("cluster=Alex") == []


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (0, 2100, range(22)),
        (100, 300, [1, 2, 3]),
        (101, 299, [2]),
        (200, 200, [2]),
        (201, 299, []),
        (-START, -1, []),
        (2100, _MAX - START, [21]),
    ],
    ids=["all", "inclusive", "between", "one second", "a gap", "before", "for ever"],
)
def test_start_time_selects_an_inclusive_range(
    admin: Client, various: dict[str, int], *, first: int, last: int, expected: list[int]
) -> None:
    ids = list(various.values())
    listed = admin.list(f"start-time={START + first}-{START + last}")
    assert _ids(listed) == [ids[place] for place in reversed(expected)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("state=failed&cluster=fritz", ["fritz failed"]),
        ("state=failed&state=running&cluster=alex", ["alex failed", "alex running"]),
        (f"state=failed&start-time={START}-{START + 800}", ["alex failed"]),
        (f"cluster=fritz&start-time={START}-{START + 1200}", ["fritz completed", "fritz running"]),
        (f"state=running&cluster=fritz&start-time={START}-{START + 1200}", ["fritz running"]),
        (f"state=failed&cluster=fritz&start-time={START}-{START + 1200}", []),
        ("cluster=alex&items-per-page=3&page=4", ["alex completed", "alex running"]),
        ("state=running&items-per-page=1&page=2", ["alex running"]),
    ],
)
def test_filters_are_combined(
    admin: Client, various: dict[str, int], query: str, expected: list[str]
) -> None:
    assert _ids(admin.list(query)) == [various[what] for what in expected]


def test_page_has_25_jobs_by_default(admin: Client, many: int) -> None:
    assert many > 25
    body = admin.send("GET", "/").get_json()
    assert (len(body["jobs"]), body["items"], body["page"]) == (25, 25, 1)


@pytest.mark.parametrize("items", [1, 7, 250, 251, 300, _MANY])
def test_pages_have_each_job_once_in_order(admin: Client, many: int, items: int) -> None:
    numbers = range(1, min(-(-many // items), 5) + 1)
    pages = [
        admin.send("GET", f"/?page={number}&items-per-page={items}").get_json()
        for number in numbers
    ]
    assert [page["page"] for page in pages] == list(numbers)
    assert [page["items"] for page in pages] == [len(page["jobs"]) for page in pages]
    together = [job for page in pages for job in page["jobs"]]
    assert _keys(together) == _keys(admin.list("items-per-page=9999999"))[: len(together)]
    assert len(together) == min(many, items * len(pages))


@pytest.mark.parametrize(
    ("page", "items"),
    [
        (2, 1000),
        (26, 25),
        (_MAX, 1),
        (_MAX, 25),
        (1 + 2**31, 2**31),
        (_MAX, _MAX),
    ],
)
def test_page_past_the_end_is_empty(admin: Client, many: int, page: int, items: int) -> None:
    assert many
    response = admin.send("GET", f"/?page={page}&items-per-page={items}")
    assert response.status_code == 200
    assert response.get_json() == _nothing(page)


@pytest.mark.parametrize("items", [_MANY, 9_999_999, _MAX])
def test_long_page_is_complete(admin: Client, many: int, items: int) -> None:
    query = f"/?state=running&items-per-page={items}&page=1&with-metadata=false"
    body = admin.send("GET", query).get_json()
    assert body["items"] == len(body["jobs"]) == many
    keys = _keys(body["jobs"])
    assert all(before > after for before, after in pairwise(keys))


def test_long_page_without_jobs_is_empty(admin: Client) -> None:
    body = admin.send("GET", "/?items-per-page=9999999").get_json()
    assert body == _nothing()


def test_jobs_are_equal_in_short_and_long_pages(admin: Client) -> None:
    admin.start(
        metaData={"a": "b"}, tags=[{"type": "a", "name": "b"}], statistics={"m": {"avg": 1}}
    )
    admin.stop()
    for query in ("", "&with-metadata"):
        assert admin.list(f"items-per-page=9999{query}") == admin.list(f"items-per-page=1{query}")


WITH_METADATA = {
    "with-metadata": True,
    "with-metadata=": True,
    **dict.fromkeys((f"with-metadata={t}" for t in ("true", "True", "TRUE", "1")), True),
    **dict.fromkeys((f"with-metadata={f}" for f in ("false", "False", "FALSE", "0")), False),
    "": False,
}


@pytest.mark.parametrize(("query", "included"), WITH_METADATA.items())
def test_metadata_is_included_on_request(admin: Client, query: str, *, included: bool) -> None:
    admin.start(metaData={"jobName": "größe"})
    expected = {"jobName": "größe"} if included else None
    assert admin.list(query)[0].get("metaData") == expected


def test_job_without_metadata_has_no_key_for_it(admin: Client) -> None:
    admin.start()
    assert "metaData" not in admin.list("with-metadata")[0]


WRONG_QUERIES: dict[str, tuple[str, ...]] = {
    "state": ("", "Running", "done", "running,failed"),
    "cluster": ("", "../etc", "a/b", "größe", "a\0", "\udcff", "x" * 65, "a'b"),
    "start-time": ("", "5", "-", "5--", "6-5", "a-b", "1-2-3", "1.0-2", "1 - 2", "٣-٤", "1-\n"),
    "items-per-page": ("", "0", "-1", "1.0", "ten", "+1", "1e3", " 1", "٣", "true", str(2**63)),
    "page": ("", "0", "-1", "1.0", "one", "+1", " 1", str(2**63), "9" * 5000),
    "with-metadata": ("yes", "2", "tru", " ", "none"),
    "unknown": ("", "1"),
    "Page": ("1",),
    "start_time": ("1-2",),
}


@pytest.mark.parametrize("name", WRONG_QUERIES)
def test_invalid_query_parameter_is_refused_by_name(admin: Client, name: str) -> None:
    for value in WRONG_QUERIES[name]:
        text = quote(value, errors="surrogateescape")
        assert_error(admin.send("GET", f"/?{name}={text}"), 400, f"{name}: ")


@pytest.mark.parametrize("limit", [2**63, 10**30])
def test_start_time_beyond_64_bits_is_refused(admin: Client, limit: int) -> None:
    assert_error(admin.send("GET", f"/?start-time=0-{limit}"), 400, "start-time: ")


@pytest.mark.parametrize("name", ["start-time", "page", "items-per-page", "with-metadata"])
def test_repeated_parameter_is_refused(admin: Client, name: str) -> None:
    assert_error(admin.send("GET", f"/?{name}=1&{name}=1"), 400, f"{name}: must not be repeated")


def test_invalid_state_among_several_is_refused(admin: Client) -> None:
    assert_error(admin.send("GET", "/?state=running&state=done"), 400, "state: ")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/start_job/"),
        ("POST", "/stop_job/"),
        ("POST", "/stop_job/1"),
        ("POST", "/tag_job/1"),
        ("DELETE", "/delete_job/"),
        ("DELETE", "/delete_job/1"),
        ("PATCH", "/edit_meta/"),
        ("PUT", "/statistics/1"),
        ("POST", "/api/nodestate/"),
    ],
)
def test_unexpected_query_parameters_are_refused(admin: Client, method: str, path: str) -> None:
    assert_error(admin.send(method, f"{path}?force=1", job()), 400, "not accept query parameters")


def _stream(reader: Client, query: str) -> tuple[TestResponse, Iterator[bytes]]:
    """Ask for a list without reading its body yet."""
    response = reader.send("GET", f"/?{query}", buffered=False)
    assert response.status_code == 200
    return response, iter(response.response)  # type: ignore[arg-type]


def test_long_page_is_a_snapshot(admin: Client, many: int, database: Database) -> None:
    before = _ids(admin.list(f"items-per-page={many}"))
    response, parts = _stream(admin, "items-per-page=9999999")
    first = [next(parts), next(parts)]
    for n in range(1, 6):
        admin.start(jobId=many + n, startTime=START - 100 * n)
    with database.session() as conn:
        conn.execute("DELETE FROM jobs WHERE id = ANY (%s)", [before[-20:]])
        conn.execute("UPDATE jobs SET start_time = 1 WHERE id = ANY (%s)", [before[300:320]])
    body = orjson.loads(b"".join([*first, *parts]))
    response.close()
    assert _ids(body["jobs"]) == before
    assert body["items"] == many


def test_unread_stream_returns_its_connection(admin: Client, many: int) -> None:
    assert many
    for _ in range(10):
        response, parts = _stream(admin, "items-per-page=9999999")
        next(parts)
        response.close()
    for _ in range(10):
        assert admin.send("HEAD", "/?items-per-page=9999999").status_code == 200
    assert len(admin.list()) == 25


@pytest.mark.slow
def test_memory_does_not_grow_with_the_list(reader: Client, database: Database) -> None:
    _fill(database, 6000)
    few, many = (_peak(reader, f"items-per-page={items}") for items in (500, 9_999_999))
    assert many < 1.5 * few


def _peak(reader: Client, query: str) -> int:
    """Read a list and give the most bytes that this took at a time."""
    tracemalloc.start()
    response, parts = _stream(reader, query)
    for part in parts:
        assert len(part) < 200_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    response.close()
    return peak
