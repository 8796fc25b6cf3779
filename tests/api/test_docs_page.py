"""A browser's first minutes: /, the page /api/docs, and what its forms send as they are."""

import base64
import hashlib
from typing import Any

import pytest
from flask import Flask

import ccapi
from tests.client import Client

Document = dict[str, Any]


@pytest.fixture
def document(app: Flask) -> Document:
    content: Document = app.test_client().get("/api/openapi.json").get_json()
    return content


def test_root_leads_to_the_login(app: Flask) -> None:
    response = app.test_client().get("/")
    assert response.status_code == 303
    assert response.headers["Location"] == "/login?next=%2F"


def test_title_and_description_have_the_version(app: Flask, document: Document) -> None:
    assert f"<title>ccapi {ccapi.__version__}</title>" in app.test_client().get("/api/docs").text
    assert f"ccapi {ccapi.__version__}" in document["info"]["description"]


def sample(document: Document, schema: Document) -> Any:
    """Return what the page shows for a schema in a form, as Swagger UI makes it up."""
    if "$ref" in schema:
        schema = document["definitions"][schema["$ref"].rpartition("/")[2]]
    if "example" in schema:
        return schema["example"]
    for part in schema.get("allOf", ()):
        return sample(document, part)
    if "enum" in schema:
        return schema["enum"][0]
    if "items" in schema:
        return [sample(document, schema["items"])]
    if "properties" in schema:
        return {key: sample(document, value) for key, value in schema["properties"].items()}
    values = {"string": "string", "integer": 0, "number": 0, "boolean": True, "object": {}}
    return values[schema["type"]]


# In this order, as on a fresh demo.
FORMS = [
    ("POST", "/jobs/start_job/", 201),
    ("GET", "/jobs/", 200),
    ("GET", "/jobs/{id}", 200),
    ("GET", "/jobs/stats/", 200),
    ("POST", "/jobs/reconcile/", 200),
    ("POST", "/jobs/tag_job/{id}", 200),
    ("DELETE", "/jobs/tag_job/{id}", 200),
    ("POST", "/jobs/edit_meta/{id}", 200),
    ("PATCH", "/jobs/edit_meta/", 200),
    ("PUT", "/jobs/statistics/{id}", 200),
    ("POST", "/jobs/resize_job/", 200),
    ("GET", "/jobs/used_nodes", 200),
    ("GET", "/clusters/", 200),
    ("GET", "/hosts/", 200),
    ("POST", "/nodestate/", 201),
    ("POST", "/jobs/batch/", 200),
    ("POST", "/jobs/stop_job/", 200),
    ("GET", "/jobs/{id}/archive", 200),
    ("GET", "/jobs/archive", 400),  # its parameters have no defaults
    ("POST", "/jobs/correct_job/{id}", 200),
    ("DELETE", "/jobs/delete_job/", 200),
    ("DELETE", "/jobs/delete_job_before/{ts}", 200),
    ("POST", "/jobs/start_job/", 201),
    ("POST", "/jobs/stop_job/{id}", 200),
    ("DELETE", "/jobs/delete_job/{id}", 200),
]


def test_forms_work_as_they_are(admin: Client, document: Document) -> None:
    id_ = 0
    for method, path, status in FORMS:
        parameters = document["paths"][path][method.lower()]["parameters"]
        in_path = {p["name"]: p["x-example"] for p in parameters if p["in"] == "path"}
        if "id" in in_path:
            assert in_path["id"] == 1  # the first job of a fresh demo
            in_path["id"] = id_
        [body] = [sample(document, p["schema"]) for p in parameters if p["in"] == "body"] or [None]
        if isinstance(body, str):  # the page sends a text as it is
            body = body.encode()
        address = f"/api{path}".format(**in_path)
        response = admin.send(method, address, body, content_type="application/json")
        assert response.status_code == status, f"{method} {path}: {response.text}"
        id_ = response.get_json()["id"] if path == "/jobs/start_job/" else id_


def test_every_form_is_tried(document: Document) -> None:
    operations = {(m.upper(), path) for path, item in document["paths"].items() for m in item}
    assert operations == {(method, path) for method, path, _ in FORMS}


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/?items-per-page=1000",
        "/?items-per-page=1000&format=csv",
        "/stats/",
        "/0",
        "/nothing",
        "/start_job/",
    ],
)
def test_answers_end_with_a_newline(
    admin: Client, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("ccapi.api.job_list._BATCH_SIZE", 1)
    for number in (1, 2, 3):
        admin.start(jobId=number)
    assert admin.send("GET", path).data.endswith(b"\n")


@pytest.mark.parametrize("path", ["/api/openapi.json", "/healthz", "/readyz", "/metrics"])
def test_other_answers_end_with_a_newline(app: Flask, path: str) -> None:
    assert app.test_client().get(path).data.endswith(b"\n")


@pytest.mark.parametrize(
    "path", ["/api/jobs/", "/api/jobs/?format=csv", "/api/openapi.json", "/healthz", "/nothing"]
)
def test_answers_are_not_pages_for_browsers(reader: Client, path: str) -> None:
    headers = reader.http.get(path, headers={"X-Auth-Token": reader.token}).headers
    assert headers.getlist("X-Content-Type-Options") == ["nosniff"]
    policies = ["default-src 'none'; frame-ancestors 'none'"]
    assert headers.getlist("Content-Security-Policy") == policies


def test_page_runs_only_its_own_script(app: Flask) -> None:
    response = app.test_client().get("/api/docs")
    [policy] = response.headers.getlist("Content-Security-Policy")
    script = response.text.rpartition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'self' 'sha256-{digest}';" in policy
    assert "frame-ancestors 'none'" in policy
    assert response.headers.getlist("X-Content-Type-Options") == ["nosniff"]
