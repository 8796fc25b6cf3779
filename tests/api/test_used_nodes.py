"""GET /jobs/used_nodes: the hosts of jobs at a time, also for clients that send no token."""

import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from ccapi.config import Config
from ccapi.config.validators import NETWORKS
from ccapi.db.pool import Database
from tests.client import START, Client, assert_error
from tests.conftest import serve
from tests.processes import gunicorn

_PATH = "/api/jobs/used_nodes"
_DAY = 86_400


def used(client: Client, query: str) -> Any:
    response = client.send("GET", f"/used_nodes?{query}")
    assert response.status_code == 200, response.text
    return response.get_json()["usedNodes"]


@pytest.mark.parametrize("seconds", [60, 3600, 25 * 3600 + 1, 30 * _DAY])
def test_a_host_is_used_from_the_start_until_before_the_stop(admin: Client, seconds: int) -> None:
    admin.start(resources=[{"hostname": "f2"}, {"hostname": "f1"}])
    admin.stop(stopTime=START + seconds)
    for time, hosts in (
        (START - 1, {}),
        (START, {"fritz": ["f1", "f2"]}),
        (START + seconds - 1, {"fritz": ["f1", "f2"]}),
        (START + seconds, {}),
    ):
        assert used(admin, f"ts={time}") == hosts


def test_hosts_of_running_jobs_are_used_now(admin: Client) -> None:
    admin.start(resources=[{"hostname": "f1"}])
    admin.start(jobId=2, cluster="alex", resources=[{"hostname": "a1"}])
    admin.start(jobId=3, cluster="alex", resources=[{"hostname": "a1"}, {"hostname": "a0"}])
    assert used(admin, "") == {"alex": ["a0", "a1"], "fritz": ["f1"]}
    assert used(admin, "cluster=alex") == {"alex": ["a0", "a1"]}
    assert used(admin, "cluster=woody") == {}


@pytest.mark.parametrize("query", ["ts=0", "ts=now", "ts=1&ts=2", "cluster=a/b", "time=5"])
def test_a_wrong_parameter_is_refused(admin: Client, query: str) -> None:
    assert_error(admin.send("GET", f"/used_nodes?{query}"), 400, query.partition("=")[0])


@pytest.fixture
def visitor(config: Config, database: Database) -> FlaskClient:
    """A client without a token of a service that is open to some networks."""
    networks = NETWORKS.convert("10.1.0.0/16, 10.0.0.7, fd00::/8")
    server = replace(config.server, used_nodes_open_to=networks)
    return serve(replace(config, server=server), database).test_client()


@pytest.mark.parametrize("address", ["10.1.2.3", "10.0.0.7", "fd00::1", "::ffff:10.1.2.3"])
def test_clients_in_a_listed_network_need_no_token(visitor: FlaskClient, address: str) -> None:
    response = visitor.get(_PATH, environ_base={"REMOTE_ADDR": address})
    assert response.status_code == 200
    assert response.get_json() == {"usedNodes": {}}


@pytest.mark.parametrize("address", ["10.2.0.1", "10.0.0.8", "127.0.0.1", "fe80::1", "x"])
def test_other_clients_need_a_token(visitor: FlaskClient, address: str) -> None:
    assert_error(visitor.get(_PATH, environ_base={"REMOTE_ADDR": address}), 401, "no token")


@pytest.mark.parametrize("path", ["/api/jobs/", "/api/clusters/", "/api/jobs/stats/", "/metrics"])
def test_other_requests_of_a_listed_client_need_a_token(visitor: FlaskClient, path: str) -> None:
    assert visitor.get(path, environ_base={"REMOTE_ADDR": "10.1.2.3"}).status_code == 401


@pytest.mark.parametrize("header", [{"X-Auth-Token": "x"}, {"Authorization": "Bearer x"}])
def test_a_wrong_token_of_a_listed_client_is_refused(
    visitor: FlaskClient, header: dict[str, str]
) -> None:
    response = visitor.get(_PATH, environ_base={"REMOTE_ADDR": "10.1.2.3"}, headers=header)
    assert_error(response, 401, "unknown")


@pytest.mark.parametrize(
    ("forwarded", "status"),
    [
        ("10.1.2.3", 200),
        ("192.0.2.1", 401),
        # The proxy appends the address that it knows; what comes before is the client's word.
        ("10.1.2.3, 192.0.2.1", 401),
        ("192.0.2.1, 10.1.2.3", 200),
        ("", 401),
        ("10.1.2.3,", 401),
    ],
)
def test_a_proxy_on_a_unix_socket_knows_the_address(
    visitor: FlaskClient, forwarded: str, status: int
) -> None:
    response = visitor.get(
        _PATH, environ_base={"REMOTE_ADDR": ""}, headers={"X-Forwarded-For": forwarded}
    )
    assert response.status_code == status


def test_a_forged_address_over_tcp_does_not_help(visitor: FlaskClient) -> None:
    response = visitor.get(
        _PATH, environ_base={"REMOTE_ADDR": "192.0.2.1"}, headers={"X-Forwarded-For": "10.1.2.3"}
    )
    assert_error(response, 401, "no token")


def test_without_the_setting_everybody_needs_a_token(app: Flask) -> None:
    assert_error(app.test_client().get(_PATH), 401, "no token")


@pytest.mark.slow
@pytest.mark.parametrize(("networks", "status"), [("10.1.0.0/16", 401), ("127.0.0.1", 200)])
def test_gunicorn_reports_the_address_of_the_connection(
    config: Config, database: Database, tmp_path: Path, networks: str, status: int
) -> None:
    settings = {
        "CCAPI_DATABASE_URL": config.database.url,
        "CCAPI_ARCHIVE_ROOT": str(config.archive.root),
        "CCAPI_SERVER_USED_NODES_OPEN_TO": networks,
    }
    with gunicorn(settings, tmp_path, workers=1) as service:
        request = urllib.request.Request(
            f"{service.url}/used_nodes", headers={"X-Forwarded-For": "10.1.2.3"}
        )
        try:
            with urllib.request.urlopen(request) as response:
                received = response.status
        except urllib.error.HTTPError as error:
            received = error.code
    assert received == status
