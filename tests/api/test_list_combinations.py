"""Every combination of two filters lists what a plain scan of the jobs matches."""

from collections.abc import Iterator
from itertools import combinations
from random import Random

import pytest
from flask import Flask

from ccapi.api.queries import ListQuery
from ccapi.db.pool import Database
from ccapi.model.job import NewJob
from ccapi.model.token import Role, Scope
from ccapi.repository import bulk_insert
from ccapi.service import tokens
from tests.api.listed_jobs import DAY, FILTERS, MID, NOW, Filter, name_of, random_job
from tests.client import START, Client, assert_error
from tests.conftest import empty

JOBS = 150
NOT_FILTERS = {
    *("page", "items-per-page", "cursor", "with-metadata", "fields", "format", "total", "sort"),
}
Numbered = dict[int, NewJob]


@pytest.fixture
def jobs(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Numbered]:
    """Register random jobs, and return them by their database ids."""
    rng = Random(19)
    added = [random_job(number, rng) for number in range(JOBS)]
    with database.transaction() as conn:
        bulk_insert.load(conn, added)
        ids = [id_ for (id_,) in conn.execute("SELECT id FROM jobs ORDER BY id")]
    monkeypatch.setattr("ccapi.api.job_list.now", lambda: NOW)
    yield dict(zip(ids, added, strict=True))
    empty(database)


def expected(jobs: Numbered, *filters: Filter) -> list[int]:
    matching = [id_ for id_, job in jobs.items() if all(one.matches(job) for one in filters)]
    return sorted(matching, key=lambda id_: (jobs[id_].start_time, id_), reverse=True)


def ids(client: Client, query: str) -> list[int]:
    return [job["id"] for job in client.list(f"items-per-page=1000&fields=id&{query}")]


def test_every_filter_of_the_list_is_combined_here() -> None:
    assert FILTERS.keys() == ListQuery().fields_by_key.keys() - NOT_FILTERS


@pytest.mark.slow
def test_two_filters_match_what_a_scan_does(reader: Client, jobs: Numbered) -> None:
    empty_answers = 0
    for first, second in combinations(FILTERS, 2):
        # In turns, so that all forms of a filter meet all other filters.
        for number in range(max(len(FILTERS[first]), len(FILTERS[second]))):
            one, other = (FILTERS[name][number % len(FILTERS[name])] for name in (first, second))
            answer = ids(reader, f"{one.query}&{other.query}")
            assert answer == expected(jobs, one, other), (one.query, other.query)
            empty_answers += not answer
    assert empty_answers < 200


def test_one_filter_matches_what_a_scan_does(reader: Client, jobs: Numbered) -> None:
    for one in [one for several in FILTERS.values() for one in several]:
        answer = reader.send("GET", f"/?{one.query}&total&items-per-page=3").get_json()
        matching = expected(jobs, one)
        assert answer["total"] == len(matching), one.query
        assert [job["id"] for job in answer["jobs"]] == matching[:3]


def test_part_of_a_name_is_found_within_a_range(reader: Client, jobs: Numbered) -> None:
    since = Filter(f"start-time={MID}-", lambda job: job.start_time >= MID)
    for part in ("oto", "%", "_2", "a*b"):
        containing = Filter("", lambda job, part=part: part in name_of(job))  # type: ignore[misc]
        query = f"{since.query}&name=*{part.replace('%', '%25')}*"
        assert ids(reader, query) == expected(jobs, since, containing), part
    stopped = Filter(f"stop-time={MID}-{MID + DAY}&name=*oto*", lambda job: "oto" in name_of(job))
    within = Filter("", lambda job: job.stop_time is not None and MID <= job.stop_time <= MID + DAY)
    assert ids(reader, stopped.query) == expected(jobs, stopped, within)


def test_statistics_have_the_filters_of_the_list(reader: Client, jobs: Numbered) -> None:
    for one in [one for several in FILTERS.values() for one in several]:
        query = f"/stats/?range={START}-{NOW}&{one.query}"
        answer = reader.send("GET", query).get_json()
        assert answer["numJobs"] == len(expected(jobs, one)), one.query


SCOPES = {
    "user": Scope(users=("anna",)),
    "users": Scope(users=("anna", "bert")),
    "project": Scope(projects=("p1",)),
    "user, projects and cluster": Scope(users=("anna",), projects=("p1", ""), clusters=("alex",)),
}


@pytest.mark.slow
@pytest.mark.parametrize("scope", SCOPES.values(), ids=SCOPES)
def test_limited_token_sees_nothing_else_by_any_filter(
    app: Flask, database: Database, jobs: Numbered, scope: Scope
) -> None:
    client = Client(app.test_client(), tokens.create(database, "a", Role.READER, scope=scope))
    visible = {
        id_: job
        for id_, job in jobs.items()
        if scope.includes(job.user_name, job.project, job.cluster)
    }
    for one in [one for several in FILTERS.values() for one in several]:
        matching = expected(visible, one)
        assert sorted(ids(client, f"{one.query}&sort=wait")) == sorted(matching), one.query
        answer = client.send("GET", f"/?{one.query}&total=estimate&items-per-page=1").get_json()
        assert (answer["total"], "totalIsEstimate" in answer) == (len(matching), False)
        answer = client.send("GET", f"/stats/?range={START}-{NOW}&{one.query}").get_json()
        assert answer["numJobs"] == len(matching), one.query


def test_names_are_metadata(app: Flask, database: Database) -> None:
    scope = Scope(sees_metadata=False)
    client = Client(app.test_client(), tokens.create(database, "a", Role.READER, scope=scope))
    for path in ("/?name=rotor", "/stats/?name=rotor"):
        assert_error(client.send("GET", path), 403, "name: this token does not see metadata")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("name=", "name: must be"),
        ("name=*", "name: must be the beginning of a name, or *part*"),
        ("name=**", "name: must be the beginning of a name, or *part*"),
        ("name=*x", "name: must be the beginning of a name, or *part*"),
        ("name=x*", "name: must be the beginning of a name, or *part*"),
        ("name=*x*", "name: *part* needs a start-time or stop-time with a FROM"),
        ("name=*x*&start-time=-5", "name: *part* needs a start-time or stop-time with a FROM"),
        (f"name={'x' * 256}", "name: must be"),
        ("not-state=done", "not-state: must be running or"),
        ("not-user=", "not-user: must be"),
        ("not-partition=", "not-partition: must be"),
        ("not-tag=a", "not-tag: must be TYPE:NAME"),
        ("not-project=a", "not-project: is unknown"),
        ("user=a&user=", "user: must be"),
        ("host=f1&host=a/b", "host: must be 1 to 255 letters"),
        ("cluster=a&cluster=a/b", "cluster: must be"),
        ("job-id=1&job-id=0", "job-id: must be an integer"),
        ("tag=a:b&tag=c", "tag: must be TYPE:NAME"),
        ("start-time=-", "start-time: must be FROM-TO in epoch seconds"),
        ("start-time=1-&start-time=2-", "start-time: must not be repeated"),
        ("wait=a-b", "wait: must be FROM-TO in seconds"),
        ("walltime-used=9%", "walltime-used: must be FROM-TO in percent"),
        ("num-acc=2-1", "num-acc: must be FROM-TO in accelerators, FROM not after TO"),
        ("num-hwthreads=72", "num-hwthreads: must be FROM-TO in hardware threads"),
        (f"submit-time=1-{2**63}", "submit-time: must be FROM-TO in epoch seconds"),
    ],
)
def test_wrong_filter_is_refused_with_a_sentence(reader: Client, query: str, said: str) -> None:
    assert_error(reader.send("GET", f"/?{query}"), 400, said)
