"""The document of the API is the contract, its page needs no internet, and answers follow it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from flask import Flask
from jsonschema_rs import Draft4Validator
from werkzeug.test import TestResponse

from ccapi.repository import job_list, jobs
from tests.client import START, Client, full_job, job, stop

_DIRECTORY = Path(__file__).parents[1] / "contract"
_CONTRACT_FILE = _DIRECTORY / "clustercockpit-rest-api-0.2.0.yaml"
CONTRACT: dict[str, Any] = yaml.safe_load(_CONTRACT_FILE.read_text("utf-8"))
_ADDITIONS: dict[str, Any] = yaml.safe_load((_DIRECTORY / "additions.yaml").read_text("utf-8"))
_ANY_TEXT = "(any text)"
_TAGS = [{"type": "a", "name": "b"}]
RECONCILE = {
    "cluster": "fritz",
    "asOf": START + 7200,
    "jobs": [{"jobId": 5, "startTime": START}],
    "ended": [
        {"jobId": 123000, "startTime": START, "stopTime": START + 60, "jobState": "failed"},
    ],
}

RESIZE = {"jobId": 123000, "resizeTime": START + 60, "resources": [{"hostname": "f2"}]}
EVERYTHING = full_job()


def _extended(contract: Any, additions: Any) -> Any:
    """Add to the contract what goes beyond it; nothing in it may change."""
    if isinstance(contract, dict) and isinstance(additions, dict):
        shared = contract.keys() & additions.keys()
        merged = {key: _extended(contract[key], additions[key]) for key in shared}
        return {**contract, **additions, **merged}
    assert isinstance(contract, list), f"{additions!r} would change {contract!r}"
    assert isinstance(additions, list)
    return contract + additions


EXPECTED = _extended(CONTRACT, _ADDITIONS)


def _values(document: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the paths and values of a document.

    Extensions that fill the page's forms are not part of the contract.
    """
    if isinstance(document, dict | list) and document:
        items = document.items() if isinstance(document, dict) else enumerate(document)
        for key, value in items:
            if key != "x-example":
                yield from _values(value, f"{where}/{key}")
    else:
        yield where, document


def _differences(document: Any) -> list[str]:
    """Return the differences from the contract with our additions.

    In some places, both require any text.
    """
    actual, expected = dict(_values(document)), dict(_values(EXPECTED))
    return [
        f"{where}: {actual.get(where)!r}, expected {expected.get(where)!r}"
        for where in sorted(actual.keys() | expected.keys())
        if not _is_expected(actual.get(where), expected.get(where))
    ]


def _is_expected(actual: Any, expected: Any) -> bool:
    if expected == _ANY_TEXT:
        return isinstance(actual, str) and actual.strip() not in {"", _ANY_TEXT}
    return type(actual) is type(expected) and bool(actual == expected)


def test_document_is_the_contract_with_our_additions(app: Flask) -> None:
    response = app.test_client().get("/api/openapi.json")
    assert response.status_code == 200
    assert response.content_type == "application/json"
    document = response.get_json()
    document["host"] = CONTRACT["host"]
    assert _differences(document) == []


def _parameters(app: Flask) -> list[tuple[str, str, str]]:
    """Return the paths, names and descriptions of the parameters that ask for jobs."""
    document = app.test_client().get("/api/openapi.json").get_json()
    return [
        (path, parameter["name"], parameter["description"])
        for path in ("/jobs/", "/jobs/stats/", "/hosts/")
        for parameter in document["paths"][path]["get"]["parameters"]
    ]


def test_every_parameter_has_an_example_that_works(app: Flask, reader: Client) -> None:
    for path, name, description in _parameters(app):
        _, label, value = description.rpartition("Example: ")
        assert label, (path, name)
        response = reader.send("GET", f"/api{path}?{name}={value}")
        assert response.status_code == 200, (path, name, response.text)


@pytest.mark.parametrize("host", ["localhost", "jobs.example.org", "10.0.0.1:8080"])
def test_document_has_the_requested_host(app: Flask, host: str) -> None:
    document = app.test_client().get("/api/openapi.json", headers={"Host": host}).get_json()
    assert document["host"] == host


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"basePath": "/"}, "/basePath: '/', expected '/api'"),
        ({"schemes": ["http"]}, "/schemes/0: 'http', expected None"),
        ({"info": {**CONTRACT["info"], "description": ""}}, "/info/description: '', expected"),
    ],
    ids=["changed", "added", "without a text"],
)
def test_comparison_finds_differences(change: dict[str, Any], difference: str) -> None:
    differences = _differences({**EXPECTED, **change})
    assert any(sentence.startswith(difference) for sentence in differences)


def _references(page: str) -> list[str]:
    return re.findall(r"""(?:src|href|url)\s*[=:]\s*["']([^"']+)""", page)


def test_page_and_its_files_come_from_the_service(app: Flask) -> None:
    http = app.test_client()
    page = http.get("/api/docs")
    assert page.status_code == 200
    assert page.content_type.startswith("text/html")
    references = _references(page.text)
    assert "/api/openapi.json" in references
    assert len(references) >= 4
    for reference in references:
        with http.get(reference) as response:
            assert response.status_code == 200, reference


def test_page_refers_to_no_other_host(app: Flask) -> None:
    page = app.test_client().get("/api/docs").text
    assert re.findall(r"(?:https?:)?//\w[^\s\"']*", page) == []
    assert re.search(r'"validatorUrl"\s*:\s*null', page)


def test_style_sheet_refers_to_no_other_host(app: Flask) -> None:
    with app.test_client().get("/api/docs/static/swagger-ui.css") as style:
        assert re.findall(r"url\(\s*[\"']?(?:https?:)?//", style.get_data(as_text=True)) == []


def _strict(definition: dict[str, Any]) -> dict[str, Any]:
    """Let an object have only the properties that the contract names."""
    closed = {"additionalProperties": False} if "properties" in definition else {}
    return {**definition, **closed}


_DEFINITIONS = {name: _strict(value) for name, value in EXPECTED["definitions"].items()}


def assert_follows(response: TestResponse, schema: dict[str, Any]) -> None:
    """Check a response's body against a schema of the contract."""
    validator = Draft4Validator({**schema, "definitions": _DEFINITIONS})
    # A batch's answer of one line is JSON, too.
    body = response.get_json(force=True)
    assert [f"{e.instance_path}: {e.message}" for e in validator.iter_errors(body)] == []


def _documented(method: str, path: str, status: int) -> dict[str, Any]:
    responses: dict[str, Any] = EXPECTED["paths"][path][method.lower()]["responses"]
    error = {"schema": {"$ref": "#/definitions/api.ErrorResponse"}}
    schema: dict[str, Any] = responses.get(str(status), error)["schema"]
    return schema


SUCCESSES: dict[str, tuple[str, str, Any]] = {
    "list": ("GET", "/jobs/", None),
    "get": ("GET", "/jobs/{id}", None),
    "archived": ("GET", "/jobs/{id}/archive", None),
    "archived run": ("GET", "/jobs/archive", None),
    "stats": ("GET", "/jobs/stats/", None),
    "start": ("POST", "/jobs/start_job/", {**EVERYTHING, "jobId": 5}),
    "stop": ("POST", "/jobs/stop_job/", stop()),
    "stop by id": ("POST", "/jobs/stop_job/{id}", stop()),
    "tag": ("POST", "/jobs/tag_job/{id}", _TAGS),
    "resize": ("POST", "/jobs/resize_job/", RESIZE),
    "batch": ("POST", "/jobs/batch/", b'{"start": {}}'),
    "reconcile": ("POST", "/jobs/reconcile/", RECONCILE),
    "correct": ("POST", "/jobs/correct_job/{id}", {"jobState": "timeout"}),
    "untag": ("DELETE", "/jobs/tag_job/{id}", _TAGS),
    "edit meta": ("POST", "/jobs/edit_meta/{id}", {"metaData": {"jobName": None, "a": "b"}}),
    "edit meta by request": (
        "PATCH",
        "/jobs/edit_meta/",
        {"jobId": 123000, "payload": {"key": "a", "value": "b"}},
    ),
    "statistics": ("PUT", "/jobs/statistics/{id}", {"mem_bw": {"unit": "GB/s", "avg": 2.5}}),
    "used nodes": ("GET", "/jobs/used_nodes", None),
    "hosts": ("GET", "/hosts/", None),
    "clusters": ("GET", "/clusters/", None),
    "node states": ("POST", "/nodestate/", {"cluster": "fritz", "nodes": [{"hostname": "f1"}]}),
    "delete": ("DELETE", "/jobs/delete_job/", {"jobId": 123000}),
    "delete by id": ("DELETE", "/jobs/delete_job/{id}", None),
    "delete before": ("DELETE", "/jobs/delete_job_before/{ts}", None),
}


def test_every_operation_is_checked_here() -> None:
    documented = {(m.upper(), path) for path, item in EXPECTED["paths"].items() for m in item}
    assert {(method, path) for method, path, _ in SUCCESSES.values()} == documented


def _send(client: Client, operation: str, body: Any, **path: int) -> TestResponse:
    method, template, _ = SUCCESSES[operation]
    run = f"?cluster=fritz&jobId=123000&startTime={START}" if operation == "archived run" else ""
    return client.send(method, f"/api{template}{run}".format(**path), body)


@pytest.mark.parametrize("full", [True, False], ids=["full job", "bare job"])
@pytest.mark.parametrize("operation", SUCCESSES)
def test_success_is_answered_as_documented(admin: Client, operation: str, *, full: bool) -> None:
    id_ = admin.start(**EVERYTHING) if full else admin.start()
    if operation in {"correct", "archived", "archived run"}:
        admin.stop()
    method, path, body = SUCCESSES[operation]
    response = _send(admin, operation, body, id=id_, ts=START + 1)
    status = 201 if operation in {"start", "node states"} else 200
    assert response.status_code == status, response.text
    assert_follows(response, _documented(method, path, status))


_OF_EVERY_JOB = {
    *("id", "jobId", "user", "cluster", "project", "startTime", "resources", "numNodes"),
    *("subCluster", "exclusive", "shared", "monitoringStatus", "jobState", "tags", "duration"),
}
_IF_GIVEN = {
    *("partition", "arrayJobId", "numHwthreads", "numAcc", "smt", "walltime", "metaData"),
    *("statistics", "submitTime", "requestedMemory", "energy", "footprint", "energyFootprint"),
}


@pytest.mark.parametrize("full", [True, False], ids=["full job", "bare job"])
@pytest.mark.parametrize("operation", ["list", "get", "stop", "stop by id"])
def test_job_has_the_required_fields_and_the_reported_ones(
    admin: Client, operation: str, *, full: bool
) -> None:
    id_ = admin.start(**EVERYTHING) if full else admin.start()
    answer = _send(admin, operation, SUCCESSES[operation][2], id=id_).get_json()
    if operation == "list":
        [answer] = answer["jobs"]
        expected = _IF_GIVEN - {"metaData"}
    else:
        expected = _IF_GIVEN
    assert set(answer) == _OF_EVERY_JOB | (expected if full else set())


@pytest.mark.parametrize("query", ["with-metadata", "items-per-page=1000&with-metadata"])
def test_list_with_metadata_is_answered_as_documented(admin: Client, query: str) -> None:
    admin.start(**EVERYTHING)
    response = admin.send("GET", f"/?{query}")
    assert "metaData" in response.get_json()["jobs"][0]
    assert_follows(response, _documented("GET", "/jobs/", 200))


# What goes wrong in the way of each operation, while one job runs.
REJECTED_REQUESTS: dict[str, tuple[str, str, Any, int]] = {
    "list": ("list", "?page=0", None, 400),
    "get": ("get", "?x", None, 400),
    "get nothing": ("get", "", None, 404),
    "archived nothing": ("archived", "", None, 404),
    "archived run": ("archived run", "?jobId=1", None, 400),
    "stats": ("stats", "?group-by=node", None, 400),
    "start": ("start", "", job(jobId=0), 400),
    "start again": ("start", "", job(), 422),
    "stop": ("stop", "", stop(jobState="running"), 400),
    "stop nothing": ("stop", "", stop(jobId=5), 422),
    "stop by id": ("stop by id", "", {}, 400),
    "stop nothing by id": ("stop by id", "", stop(), 422),
    "tag": ("tag", "", {}, 400),
    "tag nothing": ("tag", "", _TAGS, 404),
    "resize": ("resize", "", {**RESIZE, "resources": []}, 400),
    "resize nothing": ("resize", "", {**RESIZE, "jobId": 5}, 422),
    "batch": ("batch", "", b"", 400),
    "reconcile": ("reconcile", "?dry-run=maybe", RECONCILE, 400),
    "reconcile nothing": ("reconcile", "", {}, 400),
    "correct": ("correct", "", {}, 400),
    "correct nothing": ("correct", "", {"jobState": "failed"}, 404),
    "untag": ("untag", "", {}, 400),
    "untag nothing": ("untag", "", _TAGS, 404),
    "edit meta": ("edit meta", "", {}, 400),
    "edit meta of nothing": ("edit meta", "", {"metaData": {"a": "b"}}, 404),
    "edit meta by request": ("edit meta by request", "", {"jobId": 123000}, 400),
    "edit meta of nothing by request": (
        "edit meta by request",
        "",
        {"jobId": 5, "payload": {"a": "b"}},
        422,
    ),
    "statistics": ("statistics", "", {"mem_bw": 1}, 400),
    "statistics of nothing": ("statistics", "", {}, 404),
    "used nodes": ("used nodes", "?ts=now", None, 400),
    "hosts": ("hosts", "?range=5", None, 400),
    "clusters": ("clusters", "?cluster=a/b", None, 400),
    "node states": ("node states", "", {"cluster": "fritz", "nodes": [{}]}, 400),
    "delete": ("delete", "", {}, 400),
    "delete nothing": ("delete", "", {"jobId": 5}, 422),
    "delete by id": ("delete by id", "?x", None, 400),
    "delete nothing by id": ("delete by id", "", None, 422),
    "delete before": ("delete before", "?x", None, 400),
}


@pytest.mark.parametrize("name", REJECTED_REQUESTS)
def test_invalid_request_is_answered_as_documented(admin: Client, name: str) -> None:
    operation, query, body, status = REJECTED_REQUESTS[name]
    method, path, _ = SUCCESSES[operation]
    admin.start()
    address = f"/api{path}".format(id=2**62, ts=1) + query
    response = admin.send(method, address, body)
    assert response.status_code == status, response.text
    assert_follows(response, _documented(method, path, status))


@pytest.mark.parametrize("operation", SUCCESSES)
def test_unauthorized_request_is_answered_as_documented(
    reader: Client, app: Flask, operation: str
) -> None:
    method, path, _ = SUCCESSES[operation]
    nobody = Client(app.test_client(), "none")
    answered = {
        "list": 200,
        "stats": 200,
        "get": 404,
        "archived": 404,
        "archived run": 404,
        "used nodes": 200,
        "hosts": 200,
        "clusters": 200,
    }.get(operation, 403)
    for asking, status in ((nobody, 401), (reader, answered)):
        response = _send(asking, operation, None, id=1, ts=1)
        assert response.status_code == status
        assert_follows(response, _documented(method, path, status))


@pytest.mark.parametrize("operation", ["list", "start"])
def test_server_failure_is_answered_as_documented(
    admin: Client, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (jobs, job_list):
        monkeypatch.setattr(module, "_SQL", {})
    method, path, body = SUCCESSES[operation]
    response = _send(admin, operation, body)
    assert response.status_code == 500
    assert_follows(response, _documented(method, path, 500))
