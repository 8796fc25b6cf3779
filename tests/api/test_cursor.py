"""Walk through lists by cursor, however many jobs come and go meanwhile."""

from base64 import urlsafe_b64encode
from collections.abc import Iterator
from random import Random
from struct import pack
from typing import Any
from urllib.parse import quote

import pytest

from ccapi.db.pool import Database
from tests.client import START, Client, assert_error

_JOBS = 400


@pytest.fixture(autouse=True)
def _jobs(database: Database) -> None:
    """Register many jobs, of which several start in the same second."""
    add(database, 1, _JOBS)


def add(database: Database, first: int, number: int) -> None:
    with database.session() as conn:
        conn.execute(
            """
            INSERT INTO jobs (job_id, start_time, num_nodes, exclusive, monitoring_status,
                              cluster, sub_cluster, user_name, project, resources)
            SELECT n, %(start)s + n * 7919 %% 1009 %% 150, 1, 1, 1,
                   CASE WHEN n %% 3 = 0 THEN 'alex' ELSE 'fritz' END, '', 'abcd100h', '', '[]'
            FROM generate_series(%(first)s::int, %(last)s::int) AS n
            """,
            {"start": START, "first": first, "last": first + number - 1},
        )


def walk(client: Client, query: str, cursor: str = "") -> Iterator[dict[str, Any]]:
    """Yield the answers from a cursor to the end."""
    while True:
        response = client.send("GET", f"/?{query}&cursor={cursor}")
        assert response.status_code == 200, response.text
        answer = response.get_json()
        yield answer
        cursor = answer["nextCursor"]
        if cursor == "":
            return


def ids(answer: dict[str, Any]) -> list[int]:
    return [job["id"] for job in answer["jobs"]]


@pytest.mark.parametrize("items", [7, 25, 80, 251, 300, _JOBS])
@pytest.mark.parametrize("query", ["", "cluster=alex&state=running", "state=failed"])
def test_walk_has_each_job_once_in_order(reader: Client, query: str, items: int) -> None:
    everything = [job["id"] for job in reader.list(f"{query}&items-per-page=9999999")]
    answers = list(walk(reader, f"{query}&items-per-page={items}"))
    assert [id_ for answer in answers for id_ in ids(answer)] == everything
    assert [answer["page"] for answer in answers] == list(range(1, len(answers) + 1))
    assert [answer["items"] for answer in answers] == [len(answer["jobs"]) for answer in answers]
    assert len(answers) == max(1, -(-len(everything) // items))


@pytest.mark.parametrize("items", [10, 260])
def test_walk_is_not_disturbed_by_new_and_deleted_jobs(
    admin: Client, database: Database, items: int
) -> None:
    random = Random(items)
    seen: list[int] = []
    order: list[tuple[int, int]] = []
    before = {job["id"] for job in admin.list("items-per-page=9999999")}
    gone: set[int] = set()
    for number, answer in enumerate(walk(admin, f"items-per-page={items}")):
        seen += ids(answer)
        order += [(job["startTime"], job["id"]) for job in answer["jobs"]]
        add(database, _JOBS + 5 * number + 1, 5)
        # The very jobs that the cursor and its neighbours stand for may be deleted.
        doomed = {seen[-1], *random.sample(sorted(before), 3)}
        gone |= doomed - set(seen)
        with database.session() as conn:
            conn.execute("DELETE FROM jobs WHERE id = ANY (%s)", [list(doomed)])
    assert len(seen) == len(set(seen))
    assert set(seen) >= before - gone
    assert order == sorted(order, reverse=True)


def test_walk_may_begin_on_any_page(reader: Client) -> None:
    everything = [job["id"] for job in reader.list("items-per-page=9999999")]
    third = reader.send("GET", "/?page=3&items-per-page=100").get_json()
    [fourth] = walk(reader, "items-per-page=100", third["nextCursor"])
    assert [third["page"], fourth["page"]] == [3, 4]
    assert ids(fourth) == everything[300:]


def test_page_size_may_change_during_a_walk(reader: Client) -> None:
    everything = [job["id"] for job in reader.list("items-per-page=9999999")]
    first = reader.send("GET", "/?items-per-page=3").get_json()
    rest = reader.send("GET", f"/?items-per-page=9999999&cursor={first['nextCursor']}").get_json()
    assert ids(first) + ids(rest) == everything
    assert rest["nextCursor"] == ""


@pytest.mark.parametrize("items", [_JOBS - 1, _JOBS, _JOBS + 1, 9_999_999])
def test_cursor_is_empty_at_the_end_only(reader: Client, items: int) -> None:
    answer = reader.send("GET", f"/?items-per-page={items}").get_json()
    assert (answer["nextCursor"] == "") is (items >= _JOBS)


def test_page_past_the_end_has_no_cursor(reader: Client) -> None:
    assert reader.send("GET", "/?page=99").get_json()["nextCursor"] == ""


def test_cursor_needs_no_quoting_in_a_url(reader: Client) -> None:
    for answer in walk(reader, "items-per-page=3"):
        assert quote(answer["nextCursor"], safe="") == answer["nextCursor"]


@pytest.mark.parametrize("cursor", ["", "{next}"], ids=["empty", "of a list"])
@pytest.mark.parametrize("page", ["1", "2"])
def test_cursor_with_page_is_refused(reader: Client, page: str, cursor: str) -> None:
    text = cursor.format(next=reader.send("GET", "/").get_json()["nextCursor"])
    assert_error(reader.send("GET", f"/?page={page}&cursor={text}"), 400, "page: ")


def encoded(*numbers: int) -> str:
    return urlsafe_b64encode(pack(">qqq", *numbers)).decode()


LAST = 2**63 - 1
HOSTILE = {
    "word": "next",
    "number": "0",
    "short": encoded(START, 5, 2)[:-1],
    "long": encoded(START, 5, 2) + "A",
    "padded": encoded(START, 5, 2) + "====",
    "line": encoded(START, 5, 2) + "\n",
    "space": " " + encoded(START, 5, 2)[1:],
    "other alphabet": "+/" * 16,
    "zeros": encoded(0, 0, 0),
    "negative": encoded(-5, -5, -5),
    "first page": encoded(START, 5, 1),
    "no id": encoded(START, 0, 2),
    "no start": encoded(0, 5, 2),
    "letters": "ü" * 32,
    "digits": "٣" * 32,
    "NUL": "\0" * 32,
    "SQL": "'; DROP TABLE jobs; --",
    "huge": "A" * 60_000,
    "surrogate": "\udcff" * 32,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_invalid_cursor_is_refused(reader: Client, text: str) -> None:
    response = reader.send("GET", f"/?cursor={quote(text, errors='surrogateescape')}")
    assert_error(response, 400, "cursor: must be the nextCursor")


@pytest.mark.parametrize("numbers", [(1, 1, 2), (LAST, LAST, LAST), (START, LAST, LAST)])
def test_forged_cursor_does_no_harm(reader: Client, numbers: tuple[int, ...]) -> None:
    response = reader.send("GET", f"/?cursor={encoded(*numbers)}")
    assert response.status_code == 200
    assert response.get_json()["page"] == numbers[2]


def test_repeated_cursor_is_refused(reader: Client) -> None:
    assert_error(reader.send("GET", "/?cursor=&cursor="), 400, "cursor: must not be repeated")
