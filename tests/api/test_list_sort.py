"""Sorted lists: with every filter, page by page, while jobs come and go."""

import re
from collections.abc import Iterator
from itertools import combinations, islice
from random import Random
from typing import Any
from urllib.parse import urlsplit

import pytest

from ccapi.db.pool import Database
from ccapi.http import pagination
from ccapi.model.job import NewJob, SortBy
from ccapi.repository import bulk_insert
from tests.api.listed_jobs import FILTERS, NOW, duration, random_job, wait
from tests.client import START, Client, assert_error
from tests.conftest import empty

JOBS = 120
KEYS = {
    "start-time": lambda job: job.start_time,
    "stop-time": lambda job: job.stop_time,
    "duration": duration,
    "num-nodes": lambda job: len(job.resources),
    "node-hours": lambda job: len(job.resources) * duration(job),
    "wait": wait,
}
SORTS = [f"{sign}{name}" for name in SortBy for sign in ("", "-")]
Numbered = dict[int, NewJob]


class Clock:
    """The time of the service, which a test sets."""

    def __init__(self) -> None:
        self.now = NOW

    def read(self) -> int:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("ccapi.api.job_list.now", clock.read)
    return clock


@pytest.fixture
def jobs(database: Database, clock: Clock) -> Iterator[Numbered]:
    """Register random jobs, and return them by their database ids."""
    assert clock.now == NOW
    yield add(database, JOBS, Random(20))
    empty(database)


def add(database: Database, number: int, rng: Random, first: int = 0) -> Numbered:
    added = [random_job(first + n, rng) for n in range(number)]
    with database.transaction() as conn:
        [(last,)] = conn.execute("SELECT COALESCE(max(id), 0) FROM jobs").fetchall()
        bulk_insert.load(conn, added)
        ids = [
            id_ for (id_,) in conn.execute("SELECT id FROM jobs WHERE id > %s ORDER BY id", [last])
        ]
    return dict(zip(ids, added, strict=True))


def sorted_ids(jobs: Numbered, sort: str) -> list[int]:
    """Sort like the service: by value, then by id, and jobs without the value last."""
    name, is_descending = sort.removeprefix("-"), sort.startswith("-")
    sign = -1 if is_descending else 1

    def key(id_: int) -> tuple[Any, ...]:
        value = KEYS[name](jobs[id_])
        return (value is None, sign * (value or 0), sign * id_)

    return sorted(jobs, key=key)


def walk(client: Client, query: str) -> Iterator[list[int]]:
    """Yield the pages of a list, whose next page is at the Link header."""
    address = f"/api/jobs/?{query}&fields=id"
    while address:
        response = client.send("GET", address)
        assert response.status_code == 200, response.text
        yield [job["id"] for job in response.get_json()["jobs"]]
        match = re.fullmatch(r'<([^>]+)>; rel="next"', response.headers.get("Link", ""))
        assert (match is None) is (response.get_json()["nextCursor"] == "")
        address = "?".join(urlsplit(match[1])[2:4]) if match else ""


@pytest.mark.slow
@pytest.mark.parametrize("sort", SORTS)
def test_two_filters_and_a_sort_list_what_a_scan_does(
    reader: Client, jobs: Numbered, sort: str
) -> None:
    everything = sorted_ids(jobs, sort)
    rng = Random(sort)
    for first, second in combinations(FILTERS, 2):
        one, other = rng.choice(FILTERS[first]), rng.choice(FILTERS[second])
        query = f"items-per-page=1000&fields=id&sort={sort}&{one.query}&{other.query}"
        expected = [
            id_ for id_ in everything if one.matches(jobs[id_]) and other.matches(jobs[id_])
        ]
        assert [job["id"] for job in reader.list(query)] == expected, query


@pytest.mark.parametrize("sort", SORTS)
def test_pages_by_cursor_and_by_number_are_the_list(
    reader: Client, jobs: Numbered, sort: str
) -> None:
    everything = sorted_ids(jobs, sort)
    pages = list(walk(reader, f"sort={sort}&items-per-page=7"))
    assert [id_ for page in pages for id_ in page] == everything
    third = [job["id"] for job in reader.list(f"sort={sort}&items-per-page=7&page=3")]
    assert third == pages[2]


@pytest.mark.slow
@pytest.mark.parametrize("sort", SORTS)
def test_walk_neither_repeats_nor_skips_while_jobs_change(
    admin: Client, database: Database, jobs: Numbered, clock: Clock, sort: str
) -> None:
    rng = Random(sort)
    running = [id_ for id_, job in jobs.items() if job.stop_time is None]
    deleted: set[int] = set()
    seen: list[int] = []
    for number, page in enumerate(walk(admin, f"sort={sort}&items-per-page=9")):
        seen += page
        clock.now += 7200
        add(database, 4, rng, first=10_000 * (number + 1))
        gone = rng.sample(sorted(jobs), 2)
        deleted |= set(gone) - set(seen)
        stopped = rng.sample(running, 2)
        with database.session() as conn:
            conn.execute("DELETE FROM jobs WHERE id = ANY (%s)", [gone])
            conn.execute(
                "UPDATE jobs SET job_state = 'failed', stop_time = GREATEST(start_time, %s) "
                "WHERE id = ANY (%s) AND job_state = 'running'",
                [clock.now, stopped],
            )
    assert len(seen) == len(set(seen))
    before = [id_ for id_ in sorted_ids(jobs, sort) if id_ not in deleted]
    assert [id_ for id_ in seen if id_ in jobs and id_ not in deleted] == before


def test_link_keeps_the_query_and_the_address(reader: Client, jobs: Numbered) -> None:
    assert jobs
    query = "user=anna&user=bert&sort=-wait&items-per-page=2&page=2&name=rotor"
    response = reader.send("GET", f"/?{query}", headers={"Host": "jobs.example.org"})
    cursor = response.get_json()["nextCursor"]
    others = query.replace("&page=2", "")
    assert response.headers["Link"] == (
        f'<http://jobs.example.org/api/jobs/?{others}&cursor={cursor}>; rel="next"'
    )


@pytest.mark.parametrize("items", [4, 9])
def test_link_of_a_stream_is_its_cursor(
    reader: Client, jobs: Numbered, monkeypatch: pytest.MonkeyPatch, items: int
) -> None:
    monkeypatch.setattr("ccapi.api.job_list._BATCH_SIZE", 4)
    pages = list(islice(walk(reader, f"items-per-page={items}"), 3))
    assert [id_ for page in pages for id_ in page] == sorted_ids(jobs, "-start-time")[: 3 * items]


def test_cursor_goes_on_in_its_order(reader: Client, jobs: Numbered) -> None:
    expected = sorted_ids(jobs, "-duration")
    first = reader.send("GET", "/?sort=-duration&items-per-page=10").get_json()
    cursor = first["nextCursor"]
    second = reader.list(f"cursor={cursor}&items-per-page=10")
    assert [job["id"] for job in first["jobs"] + second] == expected[:20]
    for sort in ("duration", "-start-time", "-node-hours"):
        response = reader.send("GET", f"/?cursor={cursor}&sort={sort}")
        assert_error(response, 400, "cursor: comes from a list with another sort")


@pytest.mark.parametrize(
    "numbers",
    [
        (5, 0, 2, NOW, 1, 1),
        (5, 1, 1, NOW, 1, 1),
        (-2, 1, 2, NOW, 1, 1),
        (5, 1, 2, 0, 1, 1),
        (5, 1, 2, 2**62, 1, 1),
        (5, 1, 2, NOW, 6, 1),
        (5, 1, 2, NOW, -1, 1),
        (5, 1, 2, NOW, 1, 2),
    ],
)
def test_forged_cursor_of_a_sort_is_refused(reader: Client, numbers: tuple[int, ...]) -> None:
    response = reader.send("GET", f"/?cursor={pagination.encode(*numbers)}")
    assert_error(response, 400, "cursor: must be the nextCursor")


@pytest.mark.parametrize("sort", range(len(SortBy)))
def test_cursor_of_extreme_numbers_does_no_harm(reader: Client, jobs: Numbered, sort: int) -> None:
    assert jobs
    for key in (-1, 0, 2**63 - 1):
        for now in (1, 253_402_300_799):
            cursor = pagination.encode(key, 2**63 - 1, 2**63 - 1, now, sort, 0)
            assert reader.send("GET", f"/?cursor={cursor}").status_code == 200


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("sort=", "sort: must be start-time or stop-time or duration"),
        ("sort=user", "sort: must be start-time or"),
        ("sort=--wait", "sort: must be start-time or"),
        ("sort=wait&sort=wait", "sort: must not be repeated"),
        ("sort=wait&items-per-page=1001", "items-per-page: must be at most 1000 with sort=wait"),
        ("total=estimated", "total: must be true, false, 1, 0 or estimate"),
    ],
)
def test_wrong_sort_or_total_is_refused(reader: Client, query: str, said: str) -> None:
    assert_error(reader.send("GET", f"/?{query}"), 400, said)


def test_estimated_total_says_so(reader: Client, jobs: Numbered, database: Database) -> None:
    with database.session() as conn:
        conn.execute("ANALYZE jobs")
    answer = reader.send("GET", "/?total=estimate&items-per-page=5").get_json()
    assert answer["totalIsEstimate"] is True
    assert abs(answer["total"] - len(jobs)) <= len(jobs) // 2
    csv = reader.send("GET", "/?total=estimate&items-per-page=5&format=csv")
    assert csv.headers["X-Total-Is-Estimate"] == "true"
    assert int(csv.headers["X-Total"]) == answer["total"]
    everything = reader.send("GET", "/?total=estimate&items-per-page=500").get_json()
    assert everything["total"] == len(jobs)
    assert "totalIsEstimate" not in everything


def test_start_time_is_sorted_as_before(reader: Client, jobs: Numbered) -> None:
    plain, named = (
        reader.send("GET", f"/?items-per-page=5{sort}").get_json()
        for sort in ("", "&sort=-start-time")
    )
    assert plain == named
    assert len(plain["nextCursor"]) == 32
    assert plain["jobs"][0]["startTime"] == max(job.start_time for job in jobs.values()) >= START
