"""A limited visitor gets the same answers whether or not the hidden jobs exist, from every route.

Routes and parameters are those of the app, so that a new one cannot be forgotten.
"""

import itertools
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import pytest
from flask import Flask
from werkzeug.routing import Rule

from ccapi.api import serializers
from ccapi.db.pool import Database
from ccapi.http.schema import QuerySchema
from ccapi.model.job import SortBy
from ccapi.model.token import Role, Scope
from tests.client import Client
from tests.web.conftest import MakeVisitor

BEGIN = 1_700_000_000
USERS, PROJECTS, CLUSTERS = ("anna", "bert"), ("p1", "p2"), ("fritz", "alex")
SCOPE = Scope(users=("anna",), clusters=("alex",))
# They show no jobs, or the state of the whole service to those who see all jobs.
OTHER_ROUTES = re.compile(r"/login|/static/.*|/api/docs.*|/api/openapi.*|/healthz|/readyz|/metrics")
VALUES = (
    *("2", "1-", f"{BEGIN - 9}-{BEGIN + 9999}", "true", "anna", "bert", "p2", "alex", "f0001"),
    *("secret-02", "secret-15", "a:b", "t:secret-15", "jobId,user,metaData"),
)  # fmt: skip
# What a route needs to answer at all.
QUERIES = [
    ("/api/jobs/archive", f"cluster={cluster}&jobId={number}&startTime={BEGIN}")
    for cluster in CLUSTERS
    for number in range(1, 17)
]


class Reply(NamedTuple):
    """The status and the text of an answer."""

    status: int
    text: str


@pytest.fixture
def jobs(admin: Client, monkeypatch: pytest.MonkeyPatch) -> dict[int, tuple[str, str, str]]:
    """Return the user, project and cluster of each job by its id, at a moment that stands still."""
    now = serializers.now
    for module in [*sys.modules.values()]:
        if vars(module).get("now") is now:
            monkeypatch.setattr(module, "now", lambda: BEGIN + 5000)
    jobs = {}
    owners = itertools.product(USERS, PROJECTS, CLUSTERS, (False, True))
    for number, (user, project, cluster, ends) in enumerate(owners, 1):
        word = f"secret-{number:02}"
        id_ = admin.start(
            jobId=number,
            user=user,
            project=project,
            cluster=cluster,
            partition=word,
            subCluster=word,
            startTime=BEGIN,
            submitTime=BEGIN - 60 * number,
            walltime=60,
            resources=[{"hostname": "f0001"}, {"hostname": word}],
            metaData={"jobName": word, "jobScript": word},
            tags=[{"type": "a", "name": "b"}, {"type": "t", "name": word}],
        )
        if ends:
            admin.stop(jobId=number, cluster=cluster, stopTime=BEGIN + 3600, jobState="failed")
        jobs[id_] = (user, project, cluster)
    for cluster in CLUSTERS:
        nodes = [{"hostname": f"secret-{n:02}", "states": ["allocated"]} for n in range(1, 9)]
        report = {"cluster": cluster, "nodes": nodes}
        assert admin.send("POST", "/api/nodestate/", report).status_code == 201
    return jobs


@pytest.mark.slow
def test_hidden_jobs_change_no_answer(
    jobs: dict[int, tuple[str, str, str]],
    app: Flask,
    database: Database,
    make_visitor: MakeVisitor,
) -> None:
    hidden = [id_ for id_, owner in jobs.items() if not SCOPE.includes(*owner)]
    visitor = make_visitor(Role.ADMIN, SCOPE)
    headers = {"X-Auth-Token": visitor.token}

    def send(path: str) -> Reply:
        response = visitor.http.get(path, headers=headers)
        return Reply(response.status_code, response.get_data(as_text=True))

    before: dict[str, Reply] = {}
    for rule in routes(app):
        answers = dict(walk(rule, jobs, send))
        assert {200, 303} & {answer.status for answer in answers.values()}, rule.rule
        before |= answers
    delete(database, hidden)
    assert [path for path, answer in before.items() if send(path) != answer] == []


def routes(app: Flask) -> list[Rule]:
    """Return the routes that show jobs."""
    return [
        rule
        for rule in app.url_map.iter_rules()
        if "GET" in (rule.methods or ()) and not OTHER_ROUTES.fullmatch(rule.rule)
    ]


def walk(rule: Rule, jobs: dict[int, Any], send: Any) -> Iterator[tuple[str, Reply]]:
    """Yield the answers of a route with each of its parameters, one by one."""
    for address in addresses(rule, jobs):
        yield address, send(address)
    address = address.partition("?")[0]
    texts = parameters() if not rule.arguments else {"format": ("csv", "json")}
    for name, values in texts.items():
        is_unknown = f"{name}: is unknown" in send(f"{address}?{name}=").text
        for value in () if is_unknown else values:
            path = f"{address}?{name}={value}"
            if (answer := send(path)).status != 400:
                assert answer.status < 500, path
                yield path, answer
                yield f"{path}&format=csv", send(f"{path}&format=csv")


def addresses(rule: Rule, jobs: dict[int, Any]) -> list[str]:
    """Return the addresses of a route, with each id and each name in its path."""
    names = [*jobs, *USERS, *PROJECTS, *CLUSTERS, *(f"secret-{n:02}" for n in range(1, 17))]
    built = []
    for name in names:
        with suppress(ValueError):
            url = rule.build(dict.fromkeys(rule.arguments, name))
            built.append(url[1] if url else rule.rule)
    built += [f"{address}?{query}" for address, query in QUERIES if address == rule.rule]
    return [*dict.fromkeys(built)]


def parameters() -> dict[str, tuple[str, ...]]:
    """Return values for the parameters of all routes: the choices, if there are any."""
    schemas: list[type[QuerySchema]] = [QuerySchema]
    values: dict[str, tuple[str, ...]] = {"sort": (*SortBy, *(f"-{order}" for order in SortBy))}
    while schemas:
        schema = schemas.pop()
        schemas += schema.__subclasses__()
        for name, field in schema._declared_fields.items():
            choices = getattr(field, "_choices", VALUES)
            key = field.data_key or name
            values[key] = (*values.get(key, ()), *choices)
    return {name: tuple(dict.fromkeys(texts)) for name, texts in values.items()}


def delete(database: Database, ids: list[int]) -> None:
    """Delete jobs, and everything that only they have."""
    with database.session() as conn:
        words = [f"secret-{number:02}" for number in range(1, 17)]
        conn.execute("DELETE FROM jobs WHERE id = ANY (%s)", [ids])
        conn.execute("DELETE FROM node_states WHERE host = ANY (%s)", [words])
        conn.execute(
            "DELETE FROM tags AS t WHERE NOT EXISTS (SELECT FROM job_tags WHERE tag = t.id)"
        )
