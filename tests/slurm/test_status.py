"""The sender says how it is, to people and to Prometheus."""

import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from ccapi.db.pool import Database
from ccapi.model.token import Role
from ccapi.service import tokens
from tests.monitoring import files
from tests.processes import Service
from tests.slurm import events
from tests.slurm.cluster import wait_until
from tests.slurm.events import EPILOG, JOBCOMP, PROLOG, START
from tests.slurm.site import Site

pytestmark = pytest.mark.slow


def status(site: Site) -> tuple[int, dict[str, str]]:
    """Return the exit status of `--status` and the values of its lines."""
    process = site.run_sender("--status")
    assert process.stderr == ""
    lines = [line for line in process.stdout.splitlines() if not line.startswith(" ")]
    return process.returncode, dict(line.split(": ", 1) for line in lines)


def test_all_is_good(service: Service, site: Site) -> None:
    good = {
        "events waiting": "0",
        "dead letters": "0",
        "waiting for a valid token": "0",
        "events lost": "0",
        "sender": "running",
        "ccapi": "available",
    }
    events.write_start(site, 4)
    with site.sender():
        wait_until(lambda: status(site) == (0, good), 20, lambda: str(status(site)))
    assert status(site)[0] == 1
    assert status(site)[1]["sender"] == "not running"


def test_outage_has_error_and_next_try(site: Site) -> None:
    events.write_start(site, 4)
    with site.sender():
        wait_until(lambda: "unavailable" in status(site)[1]["ccapi"], 20, lambda: str(status(site)))
        pattern = r"unavailable for \d+ s: ConnectionRefusedError: .*; next try in \d+ s"
        assert re.fullmatch(pattern, status(site)[1]["ccapi"])
        assert status(site)[0] == 1


def test_events_that_wait_for_a_token_are_not_dead_letters(service: Service, site: Site) -> None:
    token = site.token_file.read_text("ascii")
    site.token_file.chmod(0o600)
    site.token_file.write_text("wrong", "ascii")
    events.write_start(site, 4)
    site.run_sender("--once")
    values = status(site)[1]
    assert (values["dead letters"], values["waiting for a valid token"]) == ("0", "1")
    assert "401" in values["ccapi"]
    site.token_file.write_text(token, "ascii")
    site.run_sender("--once")
    values = status(site)[1]
    assert (values["waiting for a valid token"], values["ccapi"]) == ("0", "available")


def test_lost_events_are_counted_by_cause(site: Site) -> None:
    for settings in ({"CCAPI_SPOOL_EVENTS": 0}, {"CCAPI_SPOOL_EVENTS": 0}, {}):
        site.configure(CCAPI_URL="http://127.0.0.1:1", **settings)
        if not settings:
            shutil.rmtree(site.spool / "new")
        site.run_hook("epilog", EPILOG)
    (site.spool / "new").mkdir()
    code, values = status(site)
    assert (code, values["events lost"]) == (1, "3 (full: 2, missing: 1)")
    assert site.run_sender("--acknowledge").returncode == 0
    assert status(site)[1]["events lost"] == "0"


def test_events_lost_without_a_spool_are_counted(site: Site, tmp_path: Path) -> None:
    site.configure(CCAPI_URL="http://127.0.0.1:1", CCAPI_SLURM_STATE=tmp_path)
    shutil.rmtree(site.spool)
    site.run_hook("prolog", PROLOG)
    site.run_hook("jobcomp", JOBCOMP)
    assert site.run_sender("--once").returncode == 0
    assert status(site)[1]["events lost"] == "2 (missing: 2)"
    site.run_sender("--acknowledge")
    assert status(site)[1]["events lost"] == "0"


@pytest.mark.parametrize("action", ["--status", "--retry", "--acknowledge"])
def test_missing_spool_is_an_error(site: Site, action: str) -> None:
    shutil.rmtree(site.spool)
    sender = site.run_sender(action)
    expected = (2, "", f"ccapi-slurm: the spool {site.spool} is missing\n")
    assert (sender.returncode, sender.stdout, sender.stderr) == expected


def test_sender_ends_when_its_spool_is_removed(site: Site) -> None:
    with site.sender() as process:
        wait_until((site.spool / "lock").exists, 10, lambda: "no lock")
        shutil.rmtree(site.spool)
        assert process.wait(20) == 2
    assert site.run_sender("--once").returncode == 0
    assert site.names() == []


@pytest.mark.parametrize("action", ["--status", "--once", "--retry"])
def test_ordinary_user_gets_one_line(site: Site, action: str) -> None:
    for path in (site.directory, *site.directory.parents):
        if path.is_relative_to("/tmp") and path != Path("/tmp"):
            path.chmod(0o755)
    command = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    sender = [*command, str(site.hooks / "ccapi-slurm"), action]
    process = subprocess.run(sender, capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout) == (2, "")
    assert re.fullmatch(r"ccapi-slurm: .*Permission denied.*\n", process.stderr)


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        ("none", ""),
        ("token", "ccapi does not know the token in "),
        ("role", "the token's role cannot register jobs, create one with --role writer"),
        ("path", "no ccapi answers at CCAPI_URL="),
        ("address", "cannot reach http://127.0.0.1:1/api/jobs"),
    ],
)
def test_start_of_the_sender_checks_address_and_token(
    service: Service, site: Site, database: Database, problem: str, line: str
) -> None:
    site.token_file.chmod(0o600)
    if problem == "token":
        site.token_file.write_text("wrong", "ascii")
    elif problem == "role":
        site.token_file.write_text(tokens.create(database, "r", Role.READER), "ascii")
    elif problem == "path":
        site.configure(CCAPI_URL=service.url.replace("/api/", "/"))
    elif problem == "address":
        site.configure(CCAPI_URL="http://127.0.0.1:1/api/jobs")
    name = events.write_start(site, 4)
    log = site.directory / "sender.log"
    with site.sender():
        if problem == "none":
            wait_until(lambda: site.names() == [], 20, lambda: "not sent")
        else:
            wait_until(lambda: line in log.read_text("utf-8"), 20, lambda: log.read_text("utf-8"))
        time.sleep(1)
    assert (log.read_text("utf-8") == "") is (problem == "none")
    if problem in {"path", "address"}:
        assert (site.names(), site.names("dead")) == ([name], [])


def test_rules_and_panels_ask_for_what_the_sender_writes(site: Site) -> None:
    events.write_start(site, 4, START)
    metrics = site.directory / "ccapi.prom"
    site.configure(CCAPI_URL="http://127.0.0.1:1/api/jobs", CCAPI_METRICS_FILE=metrics)
    site.run_sender("--once")
    lines = metrics.read_text("ascii").splitlines()
    written = {re.split(r"[ {]", line)[0] for line in lines if not line.startswith("#")}
    rules = yaml.safe_load(files.SLURM_RULES.read_text("utf-8"))["groups"][0]["rules"]
    expressions = [rule["expr"] for rule in rules]
    expressions += [text for _, text in files.expressions() if "ccapi_slurm_" in text]
    asked = {name for text in expressions for name in re.findall(r"ccapi_slurm_\w+", text)}
    assert asked == written
    for rule in rules:
        assert len(rule["annotations"]["description"]) > 30
