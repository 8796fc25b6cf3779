"""A real Prometheus takes rules and configuration, scrapes the service, and answers the panels."""

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ccapi.config import Config
from ccapi.db.pool import Database
from ccapi.model.token import Role
from ccapi.service import tokens
from tests.monitoring import files
from tests.processes import Service, free_port, gunicorn, wait_for

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs Debian's package prometheus"
)
Ask = Callable[[str], list[dict[str, Any]]]


def promtool(*arguments: object) -> None:
    done = subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def service(config: Config, database: Database, tmp_path: Path) -> Iterator[Service]:
    settings = {
        "CCAPI_DATABASE_URL": config.database.url,
        "CCAPI_ARCHIVE_ROOT": str(config.archive.root),
    }
    with gunicorn(settings, tmp_path, workers=2) as running:
        yield running


@pytest.fixture
def directory(service: Service, database: Database, tmp_path: Path) -> Path:
    """Fill our configuration in: another address, without TLS, and quicker."""
    text = files.SCRAPING.read_text("utf-8")
    for ours, here in (
        ("jobs.example.org", f"127.0.0.1:{service.port}"),
        ("scheme: https", "scheme: http"),
        ("scrape_interval: 15s", "scrape_interval: 1s"),
    ):
        assert ours in text
        text = text.replace(ours, here)
    (tmp_path / "prometheus.yml").write_text(text)
    for rules in (files.RULES, files.SLURM_RULES):
        (tmp_path / rules.name).write_bytes(rules.read_bytes())
    secret = tokens.create(database, "prometheus", Role.READER)
    (tmp_path / "ccapi.token").write_text(f"{secret}\n")
    return tmp_path


@pytest.fixture
def ask(directory: Path) -> Iterator[Ask]:
    """Run Prometheus, and ask it."""
    url = f"http://127.0.0.1:{free_port()}"
    command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--web.listen-address={url.removeprefix('http://')}"],
            cwd=directory,
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(f"{url}/-/ready", ready=True)
        yield lambda expression: query(url, expression)
    finally:
        process.terminate()
        process.wait(30)


def query(url: str, expression: str) -> list[dict[str, Any]]:
    address = f"{url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    with urllib.request.urlopen(address, timeout=30) as response:
        result: list[dict[str, Any]] = json.load(response)["data"]["result"]
    return result


def until(ask: Ask, expression: str) -> float:
    """Wait until an expression has a value, and return it."""
    deadline = time.monotonic() + 60
    while not (values := ask(expression)):
        assert time.monotonic() < deadline, expression
        time.sleep(0.5)
    return float(values[0]["value"][1])


def test_rules_and_configuration_are_valid(directory: Path) -> None:
    promtool("check", "rules", files.RULES)
    promtool("check", "rules", files.SLURM_RULES)
    promtool("check", "config", directory / "prometheus.yml")


def test_invalid_requests_and_lines_of_batches_raise_an_alert(tmp_path: Path) -> None:
    request = 'ccapi_requests_total{instance="a", endpoint="start_job", status="400"}'
    line = 'ccapi_batch_lines_total{instance="b", status="400"}'
    rare = 'ccapi_batch_lines_total{instance="c", status="400"}'
    growths = ((request, "0+1x100"), (line, "0+1x100"), (rare, "0+0.1x100"))
    [rule] = [rule for rule in files.alerts() if rule["alert"] == "CcapiInvalidHookRequests"]
    expected = [
        {"exp_labels": {**rule["labels"], "instance": name}, "exp_annotations": rule["annotations"]}
        for name in ("a", "b")
    ]
    alert = {"eval_time": "90m", "alertname": rule["alert"], "exp_alerts": expected}
    series = [{"series": name, "values": values} for name, values in growths]
    test = {"interval": "1m", "input_series": series, "alert_rule_test": [alert]}
    (tmp_path / "test.yml").write_text(
        json.dumps({"rule_files": [str(files.RULES)], "tests": [test]})
    )
    promtool("test", "rules", tmp_path / "test.yml")


def test_exported_metrics_are_valid(service: Service, directory: Path) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{service.port}/metrics")
    request.add_header("X-Auth-Token", (directory / "ccapi.token").read_text().strip())
    with urllib.request.urlopen(request, timeout=30) as response:
        exported = response.read()
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=exported, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_answers_every_panel_and_rule(service: Service, ask: Ask) -> None:
    assert until(ask, 'up{job="ccapi"} == 1') == 1
    for _ in range(7):
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{service.url}/", timeout=30)
    refused = 'ccapi_requests_total{endpoint="list_jobs",status="401"}'
    assert until(ask, f"{refused} >= 7") == 7
    assert until(ask, "ccapi_database_up") == 1
    for where, expression in files.expressions():
        filled_in = expression.replace("$instance", ".*").replace("$__rate_interval", "1m")
        assert isinstance(ask(filled_in), list), where
    assert ask('ALERTS{alertstate="firing"}') == []
