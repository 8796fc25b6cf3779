"""Each parameter at the borders of its range, over jobs at the borders of time: no 5xx."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from flask import Flask

from ccapi.db.pool import Database
from ccapi.model.rules import MAX_EPOCH_SECOND, MAX_INTEGER
from ccapi.service import rollups
from tests.client import START, Client

NUMBERS = (-MAX_INTEGER - 1, -1, 0, 1, 5, MAX_EPOCH_SECOND, MAX_INTEGER, MAX_INTEGER + 1)
RANGES = [
    f"{lower}-{upper}"
    for lower, upper in product((0, 1, 100, MAX_EPOCH_SECOND, MAX_INTEGER), repeat=2)
]
TEXTS = [*map(str, NUMBERS), *RANGES, f"{MAX_INTEGER}-", f"-{MAX_INTEGER}", "-1", "0-"]
# What makes other parameters count.
CONTEXTS = ("", "range=0-100&timeline=true", "range=0-100&group-by=user", "cursor=", "total=true")


@pytest.fixture
def admin(admin: Client) -> Client:
    """Return a client of a registry with jobs at the first and at the last second."""
    for number, start in enumerate((1, 5, MAX_EPOCH_SECOND - 1, MAX_EPOCH_SECOND), 1):
        for offset in (0, MAX_INTEGER - 10):
            walltime = MAX_INTEGER if offset else 1
            id_ = admin.start(jobId=number + offset, startTime=start, walltime=walltime)
            if number % 2:
                admin.send(
                    "POST",
                    f"/stop_job/{id_}",
                    {"jobState": "failed", "stopTime": MAX_EPOCH_SECOND},
                )
    return admin


def queries(app: Flask) -> Iterator[tuple[str, str]]:
    """Return each operation that only reads, with each of its parameters."""
    document = app.test_client().get("/api/openapi.json").get_json()
    for path, operations in document["paths"].items():
        for parameter in operations.get("get", {}).get("parameters", ()):
            if parameter["in"] == "query":
                yield f"/api{path.removeprefix('/api')}", parameter["name"]


@pytest.mark.slow
def test_no_parameter_at_a_border_causes_a_5xx(app: Flask, admin: Client) -> None:
    failures: list[Any] = []
    number = 0
    for (path, name), text in product(queries(app), TEXTS):
        for context in CONTEXTS if path.endswith(("/jobs/", "/stats/")) else ("",):
            query = f"{context}&{name}={text}" if name not in context else f"{name}={text}"
            response = admin.send("GET", f"{path.replace('{id}', '1')}?{query}")
            number += 1
            if response.status_code >= 500:
                failures.append((path, query, response.status_code))
    assert failures == []
    assert number > 2_000


@pytest.mark.parametrize("with_rollups", [False, True])
def test_statistics_of_max_counts(admin: Client, database: Database, *, with_rollups: bool) -> None:
    for number in (21, 22):
        admin.start(jobId=number, numHwthreads=MAX_INTEGER, numAcc=MAX_INTEGER)
        admin.stop(jobId=number)
    admin.start(jobId=23, numHwthreads=MAX_INTEGER, numAcc=MAX_INTEGER)
    if with_rollups:
        assert sum(rollups.rebuild(database, START + 90 * 86_400)) > 0
    time = f"range={START - 86_400 * 3}-{START + 86_400 * 3}"
    for query in (
        "group-by=user&waits=true&end-states=true",
        "timeline=true&step=3600",
        "distinct=true&timeline=true",
        *(f"histogram={of}" for of in ("num-acc", "num-nodes", "duration", "wait")),
        *(f"group-by={by}" for by in ("host", "day", "name", "month")),
    ):
        response = admin.send("GET", f"/stats/?{time}&{query}")
        assert response.status_code == 200, (query, response.text)


@pytest.mark.parametrize("number", NUMBERS)
def test_no_id_at_a_border_causes_a_5xx(admin: Client, number: int) -> None:
    end = {"jobState": "failed", "stopTime": number}
    for method, path, body in (
        ("GET", f"/{number}", None),
        ("POST", f"/stop_job/{number}", end),
        ("POST", "/stop_job/", {"jobId": number, "startTime": number, **end}),
        ("POST", f"/tag_job/{number}", [{"type": "a", "name": "b"}]),
        ("POST", f"/correct_job/{number}", end),
        ("DELETE", f"/delete_job/{number}", None),
        ("DELETE", f"/delete_job_before/{number}?omit-tagged=true", None),
        ("POST", "/reconcile/", {"cluster": "fritz", "asOf": number, "jobs": []}),
    ):
        assert admin.send(method, path, body).status_code < 500, (method, path)
