"""nginx with the files that `ccapi deploy` wrote."""

import json
import re
from pathlib import Path

import pytest

from tests.deploy.machine import NAME, Machine

CURL = "curl -sS --cacert /etc/ccapi/tls/certificate.pem"
URL = f"https://{NAME}"


@pytest.fixture(scope="module")
def token(machine: Machine) -> str:
    return machine.execute("ccapi token create proxy --role admin 2> /dev/null").strip()


def assert_error(machine: Machine, command: str, status: int, *words: str) -> None:
    """Check that an answer is a well-formed error."""
    _, output = machine.run(f"{command} -w '\\n%{{http_code}} %{{content_type}}'")
    text, _, status_line = output.rpartition("\n")
    assert status_line == f"{status} application/json", output
    body = json.loads(text)
    assert set(body) == {"status", "error"}
    for word in words:
        assert word in body["error"]


@pytest.mark.parametrize(
    ("command", "status", "words"),
    [
        (f"{CURL} {URL}/nothing", 404, "openapi.json"),
        (f"{CURL} {URL}/api/nothing", 404, "openapi.json"),
        (f"{CURL} {URL}/api", 404, "openapi.json"),
        (f"{CURL} {URL}/static", 404, "openapi.json"),
        (f"head -c 9000000 /dev/zero | {CURL} {URL}/api/jobs/ --data-binary @-", 413, "8388608"),
        (f"{CURL} '{URL}/api/jobs/?cluster={'x' * 5000}'", 414, "4 kB"),
        (f"{CURL} {URL}/api/jobs/ -H 'X-Long: {'x' * 5000}'", 431, "4 kB"),
        (f"{CURL} {URL}/api/jobs/ -X BREW", 405, "method"),
        (f"{CURL} {URL}/api/jobs/ -H 'Content-Length: x'", 400, "HTTP"),
        (f"curl -sS http://{NAME}/api/jobs/", 403, f"https://{NAME}"),
        (f"curl -sS http://{NAME}:443/api/jobs/", 400, "TLS"),
    ],
)
def test_errors_of_nginx_are_json(machine: Machine, command: str, status: int, words: str) -> None:
    assert_error(machine, command, status, words)


@pytest.mark.parametrize("path", ["/nothing", "/api", "/api/nothing", "/healthz"])
def test_answers_have_security_headers(machine: Machine, path: str) -> None:
    headers = machine.execute(f"{CURL} -D - -o /dev/null {URL}{path}").lower()
    for name in ("strict-transport-security", "x-content-type-options", "content-security-policy"):
        assert headers.count(f"\n{name}: ") == 1, headers


def test_metrics_are_of_both_pools_which_do_not_see_each_other(
    machine: Machine, token: str
) -> None:
    headers = f"-H 'X-Auth-Token: {token}'"
    start = '{"jobId": 1, "user": "a", "cluster": "both", "startTime": 1, "resources": '
    machine.execute(f"{CURL} {headers} {URL}/api/jobs/?items-per-page=1")
    machine.execute(
        f'{CURL} {headers} {URL}/api/jobs/start_job/ -d \'{start}[{{"hostname": "f1"}}]}}\''
    )
    metrics = machine.execute(f"{CURL} {headers} {URL}/metrics")
    for endpoint in ("list_jobs", "start_job"):
        assert f'ccapi_requests_total{{endpoint="{endpoint}"' in metrics


def test_stopped_service_is_502_in_json(machine: Machine) -> None:
    machine.execute("systemctl stop ccapi.socket ccapi.service")
    try:
        assert_error(machine, f"{CURL} {URL}/api/jobs/", 502, "does not run")
    finally:
        machine.execute("systemctl start ccapi.socket ccapi.service")


def test_frozen_service_is_504_in_json(machine: Machine) -> None:
    site = "/etc/nginx/conf.d/ccapi.conf"
    machine.execute(f"sed -i.bak 's/proxy_read_timeout .*/proxy_read_timeout 1s;/' {site}")
    machine.execute(
        "systemctl reload nginx; systemctl kill --signal=STOP ccapi-readers.service; sleep 1"
    )
    try:
        assert_error(machine, f"{CURL} {URL}/api/jobs/", 504, "too long")
    finally:
        machine.execute(f"systemctl kill --signal=CONT ccapi-readers.service; mv {site}.bak {site}")
        machine.execute("systemctl reload nginx; sleep 1")


def test_proxy_headers_of_a_client_are_ignored(machine: Machine, token: str) -> None:
    spoofed = " ".join(
        f"-H '{header}'"
        for header in (
            "X-Forwarded-For: 10.0.0.1",
            "X-Forwarded-Prefix: /evil",
            "X-Forwarded-Host: evil.example",
            "SCRIPT_NAME: /api",
            "Script-Name: /api",
            "PATH_INFO: /api/jobs/delete_job_before/9999999999",
            "X-Request-Id: mine",
        )
    )
    command = f"{CURL} -i -H 'X-Auth-Token: {token}' {spoofed} {URL}/api/jobs/?items-per-page=1"
    output = machine.execute(command)
    assert output.startswith("HTTP/1.1 200")
    assert re.search(r"(?mi)^x-request-id: [0-9a-f]{32}\s*$", output)
    assert "evil" not in machine.execute(f"{CURL} {spoofed} {URL}/api/openapi.json")


@pytest.mark.parametrize("name", ["ccapi", "ccapi-readers"])
def test_only_nginx_may_connect_to_the_socket(machine: Machine, name: str) -> None:
    ask = f"curl -sS --unix-socket /run/{name}.sock http://x/healthz"
    assert machine.run(f"cd /; runuser -u nobody -- {ask}")[0] != 0
    assert "OK" in machine.execute(f"cd /; runuser -u www-data -- {ask}")


def test_slow_clients_do_not_delay_others(machine: Machine, token: str) -> None:
    machine.bring(Path(__file__).with_name("slow.py"), "/root/slow.py")
    output = json.loads(machine.execute(f"python3 /root/slow.py {token}"))
    assert output["seconds"] < 3
    assert output["open"] == 40
    assert output["statuses"] == {"201": 40}


def test_slow_reader_occupies_nginx_only(machine: Machine, token: str) -> None:
    fill = (
        "INSERT INTO jobs (job_id, cluster, start_time, user_name, project, sub_cluster, "
        "num_nodes, exclusive, monitoring_status, resources) "
        "SELECT n, 'big', 1600000000 + n, 'abcd100h', '', 'main', "
        "4, 1, 1, json_build_array(json_build_object('hostname', repeat('x', 250))) "
        "FROM generate_series(1, 40000) AS n"
    )
    machine.execute(f'cd /; runuser -u ccapi -- psql -q ccapi -c "{fill}"')
    ask = f"{CURL} -H 'X-Auth-Token: {token}' '{URL}/api/jobs/?cluster=big&items-per-page=99999'"
    slow = machine.start(f"{ask} --limit-rate 2M | tail -c 40")
    open_files = "ls -l /proc/[0-9]*/fd 2> /dev/null | grep -c /var/lib/nginx/proxy"
    machine.execute(f"timeout 60 bash -c 'until {open_files} > /dev/null; do sleep 0.2; done'")
    # The worker has ended the answer, and idles, while the reader still reads.
    machine.await_idle_workers()
    assert slow.poll() is None, "the answer ended too early for this test"
    output, _ = slow.communicate(timeout=120)
    assert '"items":40000,"page":1,' in output
