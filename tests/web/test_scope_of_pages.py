"""A limited visitor finds no way to another's job, on any page, by any filter."""

import re
import time
from itertools import product
from typing import Any

import pytest

from ccapi.model.token import Role, Scope
from tests.client import Client
from tests.web.conftest import MakeVisitor
from tests.web.visitor import Visitor

USERS, PROJECTS, CLUSTERS = ("anna", "bert"), ("p1", "p2"), ("fritz", "alex")
SCOPES = [
    Scope(users=("anna",)),
    Scope(users=("anna", "bert"), projects=("p2",), clusters=("alex",)),
    *(
        pytest.param(scope, marks=pytest.mark.slow)
        for scope in (
            Scope(projects=("p1",)),
            Scope(clusters=("fritz",)),
            Scope(users=("nobody",)),
        )
    ),
]
# Each hidden job has these words in its texts; no page of a limited visitor may have them.
SECRET = re.compile(r"secret-\d+")
QUERIES = (
    "", "state=running", "state=completed", "user=anna", "user=bert", "project=p1", "project=p2",
    "cluster=fritz", "cluster=alex", "not-user=anna", "name=secret", "host=f0001", "tag=a:b",
    "last=24h", "total=true", "num-nodes=1-9", "sort=duration", "items-per-page=1&page=2",
    "format=csv&with-metadata", "format=json&with-metadata&total",
)  # fmt: skip


def secret(number: int) -> str:
    return f"secret-{number:04}"


@pytest.fixture
def jobs(admin: Client) -> dict[int, tuple[str, str, str]]:
    """Return the user, project and cluster of each job by its number; its texts are secrets."""
    begin = int(time.time()) - 7200
    jobs = {}
    for number, (user, project, cluster, ends) in enumerate(
        product(USERS, PROJECTS, CLUSTERS, (False, True)), 1
    ):
        word = secret(number)
        body: dict[str, Any] = {
            "jobId": number,
            "user": user,
            "project": project,
            "cluster": cluster,
            "partition": word,
            "startTime": begin,
            "walltime": 60,
            "resources": [{"hostname": "f0001"}, {"hostname": word}],
            "metaData": {"jobName": word, "jobScript": word},
            "tags": [{"type": "a", "name": "b"}, {"type": "t", "name": word}],
        }
        id_ = admin.start(**body)
        if ends:
            stop = {"jobId": number, "cluster": cluster, "stopTime": begin + 3600}
            admin.stop(**stop, jobState="failed")
        jobs[id_] = (user, project, cluster)
    return jobs


@pytest.mark.parametrize("scope", SCOPES, ids=str)
def test_no_page_shows_a_hidden_job(
    jobs: dict[int, tuple[str, str, str]], make_visitor: MakeVisitor, scope: Scope
) -> None:
    visitor = make_visitor(Role.ADMIN, scope)
    hidden = {id_ for id_, owner in jobs.items() if not scope.includes(*owner)}
    visible = {number for number, owner in enumerate(jobs.values(), 1) if scope.includes(*owner)}
    seen: set[int] = set()
    for path in pages(jobs):
        html = visitor.http.get(path).text
        # A page repeats its address.
        words = {*SECRET.findall(html)} - {*SECRET.findall(path)}
        numbers = {int(word.rpartition("-")[2]) for word in words}
        assert numbers <= visible, path
        linked = {int(id_) for id_ in re.findall(r"/jobs/(\d+)", html)}
        assert not linked & hidden - {int(id_) for id_ in re.findall(r"/jobs/(\d+)", path)}, path
        seen |= numbers
    assert seen == visible
    for id_ in hidden:
        assert visitor.http.get(f"/jobs/{id_}").status_code == 404


def pages(jobs: dict[int, tuple[str, str, str]]) -> list[str]:
    """Return the addresses of every page, for every job and every filter."""
    names = [secret(number) for number in range(1, len(jobs) + 1)]
    return [
        "/", "/search?q=secret", "/search?q=anna", "/search?q=bert", "/search?q=f0001",
        *(f"/clusters/{name}" for name in CLUSTERS),
        *(f"/users/{name}" for name in USERS),
        *(f"/projects/{name}" for name in PROJECTS),
        *(f"/hosts/{name}" for name in ("f0001", *names)),
        *(f"/jobs?{query}" for query in QUERIES),
        *(f"/jobs/rows?{query}" for query in QUERIES if "format" not in query),
        *(f"/jobs?job-id={number}" for number in range(1, len(jobs) + 1)),
        *(f"/search?q={number}" for number in range(1, len(jobs) + 1)),
        *(f"/jobs/{id_}" for id_ in jobs),
        *(f"/jobs/{id_}?format=json" for id_ in jobs),
        *(
            f"/statistics?group-by={by}{format_}"
            for by in ("user", "project", "partition", "cluster", "state", "host", "name")
            for format_ in ("", "&format=csv", "&format=json")
        ),
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["tag", "untag", "meta", "correct"])
def test_no_form_changes_a_hidden_job(
    jobs: dict[int, tuple[str, str, str]], admin: Client, make_visitor: MakeVisitor, form: str
) -> None:
    visitor = make_visitor(Role.ADMIN, Scope(users=("anna",)))
    before = admin.list("items-per-page=100&with-metadata")
    fields = {"type": "a", "name": "b", "key": "k", "value": "v", "state": "timeout"}
    for id_, (user, *_) in jobs.items():
        if user != "anna":
            assert visitor.post(f"/jobs/{id_}/{form}", **fields).status_code == 404
    after = admin.list("items-per-page=100&with-metadata")
    assert [without_duration(job) for job in after] == [without_duration(job) for job in before]


def without_duration(job: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in job.items() if key != "duration"}


def test_trouble_is_for_those_who_see_all_jobs(
    jobs: dict[int, tuple[str, str, str]], make_visitor: MakeVisitor
) -> None:
    del jobs
    everything: Visitor = make_visitor(name="otto")
    assert "Overdue jobs" in everything.get("/")
    limited = make_visitor(scope=Scope(clusters=("fritz",)))
    assert "Overdue jobs" not in limited.get("/")
    assert 'href="/clusters/alex"' not in limited.get("/")
    limited.get("/clusters/alex", 404)
