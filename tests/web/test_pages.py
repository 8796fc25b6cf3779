"""What holds for every page: headers, errors, static files, the switch."""

import hashlib
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from flask import Flask

from ccapi.config import Config
from ccapi.config.settings import Web
from ccapi.db.pool import Database
from ccapi.errors import DatabaseUnavailable
from tests import conftest
from tests.client import Client
from tests.web.visitor import Visitor

STATIC = Path(__file__).parents[2] / "ccapi" / "web" / "static"
# npm's htmx.org 2.0.11, dist/htmx.min.js.
HTMX_SHA256 = "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717"
PAGES = (
    "/", "/jobs", "/jobs/{id}", "/clusters/fritz", "/users/abcd100h", "/projects/p", "/hosts/f0101",
    "/statistics", "/search", "/search?q=none", "/login", "/jobs/0",
)  # fmt: skip
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'"
)


def test_htmx_is_the_published_file() -> None:
    assert hashlib.sha256((STATIC / "htmx.min.js").read_bytes()).hexdigest() == HTMX_SHA256
    assert "Zero-Clause BSD" in (STATIC / "htmx-LICENSE.txt").read_text("utf-8")


@pytest.mark.parametrize("path", ["/", "/login", "/jobs", "/jobs/rows", "/jobs/0", "/static/x"])
def test_headers(visitor: Visitor, path: str) -> None:
    response = visitor.http.get(path)
    assert response.headers["Content-Security-Policy"] == CSP
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "same-origin"
    if path != "/static/x":
        assert response.headers["Cache-Control"] == "no-store"


def test_pages_have_no_inline_script_or_style(admin: Client, visitor: Visitor) -> None:
    id_ = admin.start(walltime=10, project="p")
    for path in PAGES:
        html = visitor.http.get(path.format(id=id_)).text
        assert not re.search(r"<style|<script>|\sstyle=|\son\w+=|javascript:", html)


def test_first_load_is_four_small_requests(visitor: Visitor) -> None:
    html = visitor.get("/jobs")
    files = re.findall(r'(?:src|href)="(/static/[^"]+)"', html)
    assert len(files) == 3
    for file in files:
        with visitor.http.get(file) as response:
            assert response.status_code == 200
        assert "max-age=31536000" in response.headers["Cache-Control"]
        name = file.partition("?")[0].rpartition("/")[2]
        digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()
        assert file.endswith(f"?v={digest[:12]}")


@pytest.mark.parametrize("path", [page for page in PAGES if page not in {"/login", "/search"}][:-1])
def test_every_page_links_its_csv_and_json(admin: Client, visitor: Visitor, path: str) -> None:
    id_ = admin.start(project="p")
    html = visitor.get(path.format(id=id_))
    links = re.findall(r'<a href="([^"]+)"[^>]*>(CSV|JSON)</a>', html)
    assert {name for _, name in links} == {"CSV", "JSON"}
    for address, name in links:
        response = visitor.http.get(unescape(address))
        assert response.status_code == 200, address
        assert name.lower() in response.content_type


def test_no_page_names_another_site(admin: Client, visitor: Visitor) -> None:
    id_ = admin.start(project="p")
    for path in PAGES:
        html = visitor.http.get(path.format(id=id_)).text
        html = html.replace("http://www.w3.org/2000/svg", "")
        assert "//" not in " ".join(re.findall(r'(?:src|href|action)="([^"]*)"', html))


def test_errors_are_pages(app: Flask, visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "<h1>Not Found</h1>" in visitor.get("/clusters/none", 404)
    assert "<h1>Bad Request</h1>" in visitor.get("/jobs?x", 400)
    for error, status in ((DatabaseUnavailable("down"), 503), (ValueError("secret"), 500)):

        def fail(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr("ccapi.web.jobs.ListRequest.parse", fail)
        response = visitor.http.get("/jobs")
        assert response.status_code == status
        assert "secret" not in response.text
        assert response.content_type == "text/html; charset=utf-8"
        assert (response.headers.get("Retry-After") == "5") == (status == 503)
    del app


def test_pages_can_be_switched_off(config: Config, database: Database) -> None:
    app = conftest.serve(replace(config, web=Web(enabled=False)), database)
    http = app.test_client()
    assert http.get("/").headers["Location"] == "/api/docs"
    for path in ("/jobs", "/login", "/static/ccapi.css"):
        assert http.get(path).status_code == 404


def test_api_does_not_accept_the_cookie(visitor: Visitor) -> None:
    assert visitor.http.get("/api/jobs/").status_code == 401


def test_api_docs_are_linked(visitor: Visitor) -> None:
    assert '<a href="/api/docs">' in visitor.get("/")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/jobs?user=%ff"),
        ("GET", "/jobs?user=%00"),
        ("GET", "/jobs?last=7d&range=1-2"),
        ("GET", f"/jobs?start-time={'9' * 40}-"),
        ("GET", f"/jobs?duration=0-{2**63 - 1}&job-id={2**63 - 1}"),
        ("GET", "/jobs?filter=1&from=0001-01-01T00:00&to=9999-12-31T23:59"),
        ("GET", "/jobs?page=9223372036854775807&items-per-page=100"),
        ("GET", "/jobs?fields=id&format=csv&format=json"),
        ("GET", "/users/%ff"),
        ("GET", "/users/%00"),
        ("GET", "/users/%ED%A0%80"),
        ("GET", "/projects/" + "x" * 3000),
        ("GET", "/clusters/%2e%2e"),
        ("GET", "/statistics?range=1-253402300799"),
        ("GET", "/statistics?group-by=host&group-by=day&limit=10000"),
        ("GET", "/search?q=%ff%fe"),
        ("GET", "/search?q=a&q=b"),
        ("POST", "/jobs"),
        ("PUT", "/login"),
        ("POST", "/login"),
        ("POST", "/logout"),
        ("POST", "/jobs/1/tag"),
        ("GET", "/jobs/1/tag"),
        ("GET", "/static/../../../etc/passwd"),
        ("GET", "/static/%2e%2e/%2e%2e/pages.py"),
    ],
)
def test_hostile_requests_are_no_failures(visitor: Visitor, method: str, path: str) -> None:
    with visitor.http.open(path, method=method, headers={"Sec-Fetch-Site": "none"}) as response:
        assert response.status_code < 500, path


@pytest.mark.parametrize("cookie", ["", "x", "\0", "ccapi_" + "x" * 43, "x" * 5000, "ä"])
def test_hostile_cookies_are_no_sessions(app: Flask, database: Database, cookie: str) -> None:
    del database
    response = app.test_client().get("/jobs", headers={"Cookie": f"ccapi={cookie}"})
    assert response.status_code == 303
