"""Visitors whom a proxy has authenticated; no client can pretend to be one."""

import base64
import http.client
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_network
from pathlib import Path

import pytest
from flask import Flask

from bench.deployed_site import Site, nginx, run_site
from ccapi.config import Config
from ccapi.config.settings import Web
from ccapi.config.validators import Names, Networks
from ccapi.db.pool import Database
from ccapi.model.token import Role
from ccapi.service import tokens
from tests import conftest
from tests.cli.conftest import Command, ccapi, environment
from tests.web.visitor import SAME_ORIGIN, log_in

__all__ = ["ccapi", "environment"]

PROXY = {"REMOTE_ADDR": "10.0.0.7"}
UNIX_SOCKET = {"REMOTE_ADDR": ""}
WEB = Web(
    user_header="X-Remote-User",
    groups_header="X-Remote-Groups",
    proxy_addresses=Networks([ip_network("10.0.0.7")]),
    admin_groups=Names(["hpc-admins"]),
    reader_groups=Names(["support"]),
)


@pytest.fixture
def proxied(config: Config, database: Database) -> Flask:
    return conftest.serve(replace(config, web=WEB), database)


@pytest.fixture
def started(proxied: Flask, database: Database) -> dict[str, int]:
    """Return the jobs of two users by their names."""
    admin = conftest.client(proxied, database, Role.ADMIN)
    return {user: admin.start(jobId=n, user=user) for n, user in enumerate(("anna", "bert"), 1)}


def get(app: Flask, path: str, environ: Mapping[str, str], **headers: str) -> tuple[int, str]:
    """Open a page as a proxy that sends headers; return status and HTML."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = app.test_client().get(path, headers=named, environ_overrides=dict(environ))
    return response.status_code, response.text


@pytest.mark.parametrize("environ", [PROXY, UNIX_SOCKET, {"REMOTE_ADDR": "::ffff:10.0.0.7"}])
def test_user_of_the_proxy_sees_his_jobs(
    proxied: Flask, started: dict[str, int], environ: dict[str, str]
) -> None:
    status, html = get(proxied, "/jobs", environ, X_Remote_User="anna")
    assert status == 200
    assert re.findall(r'id="job-(\d+)"', html) == [str(started["anna"])]
    assert get(proxied, f"/jobs/{started['bert']}", environ, X_Remote_User="anna")[0] == 404
    assert "Log out" not in html


@pytest.mark.parametrize(
    ("groups", "jobs", "role"),
    [
        ("", 1, "reader"),
        ("students, support", 2, "reader"),
        ("hpc-admins", 2, "admin"),
        ("hpc-admins-not", 1, "reader"),
    ],
)
def test_groups_are_roles(
    proxied: Flask, started: dict[str, int], groups: str, jobs: int, role: str
) -> None:
    del started
    headers = {"X_Remote_User": "anna", "X_Remote_Groups": groups}
    _, html = get(proxied, "/jobs", UNIX_SOCKET, **headers)
    assert len(re.findall(r'id="job-\d+"', html)) == jobs
    assert f"<small>{role}</small>" in html


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.8", "nonsense"])
def test_header_of_others_is_ignored(proxied: Flask, address: str) -> None:
    assert get(proxied, "/jobs", {"REMOTE_ADDR": address}, X_Remote_User="anna")[0] == 303


def test_header_is_ignored_without_the_setting(app: Flask) -> None:
    for header in ("X_Remote_User", "Remote_User", ""):
        assert get(app, "/jobs", UNIX_SOCKET, **{header or "X": "anna"})[0] == 303


@pytest.mark.parametrize("name", ["x" * 256, "a\tb", "\xff"])
def test_name_that_no_user_has_is_refused(proxied: Flask, name: str) -> None:
    assert get(proxied, "/jobs", UNIX_SOCKET, X_Remote_User=name)[0] == 303


def test_session_counts_without_the_header(proxied: Flask, database: Database) -> None:
    visitor = log_in(proxied, tokens.create(database, "token-of-anna", Role.READER))
    assert "token-of-anna" in visitor.get("/jobs")


def test_forms_of_the_proxys_users_need_their_token(
    proxied: Flask, started: dict[str, int]
) -> None:
    http_client = proxied.test_client()
    headers = {"X-Remote-User": "otto", "X-Remote-Groups": "hpc-admins"}
    path = f"/jobs/{started['anna']}"
    html = http_client.get(path, headers=headers, environ_overrides=UNIX_SOCKET).text
    [form_token, *_] = re.findall(r'name="form_token" value="(\w+)"', html)
    for token, status in (("", 403), ("x", 403), (form_token, 303)):
        response = http_client.post(
            f"{path}/tag",
            data={"form_token": token, "type": "a", "name": "b"},
            headers={**headers, **SAME_ORIGIN},
            environ_overrides=UNIX_SOCKET,
        )
        assert response.status_code == status


def test_deploy_needs_the_header_of_the_login_proxy(ccapi: Command, tmp_path: Path) -> None:
    refused = ccapi(
        "deploy", str(tmp_path / "x"), "--server-name", "a", "--login-proxy", "127.0.0.1:4180"
    )
    assert refused.status == 2
    assert "user_header" in refused.err


class LoginProxy(BaseHTTPRequestHandler):
    """What oauth2-proxy does: the user is in its cookie, the groups in another."""

    def do_GET(self) -> None:
        # As Go's server does, it reads a body before it answers.
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        cookies = dict(re.findall(r"(\w+)=([^;]*)", self.headers.get("Cookie", "")))
        is_check = self.path == "/oauth2/auth"
        self.send_response((202 if "user" in cookies else 401) if is_check else 200)
        if is_check and "user" in cookies:
            self.send_header("X-Auth-Request-Preferred-Username", cookies["user"])
            self.send_header("X-Auth-Request-Groups", cookies.get("groups", ""))
        self.end_headers()
        if not is_check:
            self.wfile.write(f"sign in, then {self.headers['X-Auth-Request-Redirect']}".encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def login_proxy() -> Iterator[int]:
    """Run the login proxy; yield its port."""
    with HTTPServer(("127.0.0.1", 0), LoginProxy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.slow
@pytest.mark.skipif(nginx() is None, reason="nginx is not installed")
class TestNginx:
    @pytest.fixture
    def settings(self, config: Config, database: Database) -> dict[str, str]:
        with database.connection() as conn:
            conn.execute(
                "INSERT INTO jobs (job_id, cluster, start_time, user_name, project, sub_cluster,"
                " num_nodes, exclusive, monitoring_status, resources) SELECT n, 'fritz', n,"
                " CASE WHEN n = 1 THEN 'anna' ELSE 'root' END, '', '', 1, 1, 1,"
                """ '[{"hostname": "f1"}]' FROM generate_series(1, 2) AS n"""
            )
        return {
            "CCAPI_DATABASE_URL": config.database.url,
            "CCAPI_ARCHIVE_ROOT": str(config.archive.root),
            "CCAPI_WEB_USER_HEADER": "X-Remote-User",
            "CCAPI_WEB_GROUPS_HEADER": "X-Remote-Groups",
            "CCAPI_WEB_ADMIN_GROUPS": "hpc-admins",
        }

    @pytest.fixture
    def site(self, settings: dict[str, str]) -> Iterator[Site]:
        with login_proxy() as port:
            options = ("--login-proxy", f"127.0.0.1:{port}")
            with run_site(settings, workers=1, readers=1, options=options) as running:
                yield running

    def test_no_client_can_forge_the_header(self, site: Site) -> None:
        forged = {
            "X-Remote-User": "root",
            "x-remote-user": "root",
            "X_Remote_User": "root",
            "X-Remote-Groups": "hpc-admins",
            "X-Forwarded-For": "10.0.0.7",
        }
        assert open_page(site, "/jobs", forged) == (403, "sign in, then /jobs")
        status, html = open_page(site, "/jobs?state=running", {**forged, "Cookie": "user=anna"})
        assert status == 200
        assert re.findall(r'class="row" id="job-\d+" href="/jobs/\d+">(\d)<', html) == ["1"]
        assert "<small>reader</small>" in html
        status, _ = open_page(site, "/api/jobs/", {**forged, "Cookie": "user=anna"})
        assert status == 401

    def test_groups_come_from_the_login_proxy(self, site: Site) -> None:
        _, html = open_page(site, "/jobs", {"Cookie": "user=otto; groups=hpc-admins"})
        assert "<small>admin</small>" in html
        assert len(re.findall(r'id="job-\d+"', html)) == 2

    def test_logout_does_not_lead_to_itself(self, site: Site) -> None:
        assert open_page(site, "/oauth2/sign_out", {}) == (200, "sign in, then /")

    def test_form_passes_the_login_proxy(self, site: Site) -> None:
        headers = {"Cookie": "user=otto; groups=hpc-admins", **SAME_ORIGIN}
        status, html = open_page(site, "/jobs/1/tag", headers, body="type=a&name=b")
        assert (status, "reload the page" in html) == (403, True)

    def test_secrets_of_long_cookies_are_not_logged(self, site: Site) -> None:
        secret = f"user=anna; _oauth2_proxy={'s' * 1000}; ccapi={'c' * 43}"
        assert open_page(site, "/jobs", {"Cookie": secret, "X-Auth-Token": "t" * 1000})[0] == 200
        logs = "".join(file.read_text() for file in site.directory.glob("*.log"))
        assert not re.search("s{20}|c{20}|t{20}", logs)

    def test_user_whom_nginx_has_checked_sees_his_jobs(
        self, settings: dict[str, str], tmp_path: Path
    ) -> None:
        passwords = tmp_path / "passwords"
        passwords.write_text("anna:{PLAIN}right\n")
        former = "# set $ccapi_has_user 1;"
        edits = {former: f"set $ccapi_has_user 1; auth_basic x; auth_basic_user_file {passwords};"}
        with run_site(settings, workers=1, readers=1, edits=edits) as site:
            assert open_page(site, "/jobs", basic_auth("anna", "wrong"))[0] == 401
            status, html = open_page(site, "/jobs?state=running", basic_auth("anna", "right"))
        assert status == 200
        assert re.findall(r'class="row" id="job-\d+" href="/jobs/\d+">(\d)<', html) == ["1"]

    def test_name_that_nginx_has_not_checked_is_ignored(self, settings: dict[str, str]) -> None:
        with run_site(settings, workers=1, readers=1) as site:
            assert open_page(site, "/jobs", basic_auth("root", "any"))[0] == 303


def basic_auth(user: str, password: str) -> dict[str, str]:
    """Return the header with which a browser sends a user's password."""
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def open_page(
    site: Site, path: str, headers: Mapping[str, str], body: str | None = None
) -> tuple[int, str]:
    """Open a page through nginx, or send a form."""
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(60)
    connection.sock.connect(str(site.socket))
    try:
        form = {} if body is None else {"Content-Type": "application/x-www-form-urlencoded"}
        method = "GET" if body is None else "POST"
        connection.request(method, path, body, headers={**headers, **form})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()
