"""`ccapi jobs list`, `show` and `stats`."""

import json
from typing import Any

import pytest

from tests.cli.conftest import Command
from tests.client import START, Client

HOUR = 3600


@pytest.fixture
def three(writer: Client) -> list[int]:
    ids = [
        writer.start(jobId=number, startTime=START + number, user=user, metaData={"jobName": name})
        for number, user, name in ((1, "anna", "rotor"), (2, "bert", "a\x1b[31m"), (3, "anna", "x"))
    ]
    writer.stop(jobId=1, stopTime=START + HOUR, jobState="failed")
    return ids


def jobs(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_list_is_a_table(ccapi: Command, three: list[int]) -> None:
    status, out, err = ccapi("jobs", "list", "--user", "anna")
    header, latest, first = out.splitlines()
    assert (status, err) == (0, "")
    assert header.split()[:3] == ["ID", "JOBID", "USER"]
    assert latest.split()[:3] == [str(three[2]), "3", "anna"]
    assert first.split()[-3:] == ["2023-11-14T22:13:21Z", "0:59:59", "rotor"]


def test_list_as_json_has_the_filters_of_the_api(ccapi: Command, three: list[int]) -> None:
    _, out, _ = ccapi("jobs", "list", "--json", "--user", "anna", "--user", "bert", "--limit", "2")
    assert [job["id"] for job in jobs(out)] == [three[2], three[1]]
    for arguments, expected in (
        (["--not-state", "running"], [1]),
        (["--name", "rot"], [1]),
        (["--sort", "start-time", "--limit", "5"], [1, 2, 3]),
        (["--sort", "-duration", "--limit", "2"], [2, 3]),
        (["--start-time", f"{START + 2}-"], [3, 2]),
    ):
        status, out, _ = ccapi("jobs", "list", "--json", *arguments)
        assert (status, [job["jobId"] for job in jobs(out)]) == (0, expected)
    assert jobs(out)[0]["metaData"] == {"jobName": "x"}


def test_control_characters_do_not_reach_the_terminal(ccapi: Command, three: list[int]) -> None:
    for arguments in (["list"], ["show", str(three[1])]):
        _, out, _ = ccapi("jobs", *arguments)
        assert "\x1b" not in out
        assert "[31m" in out


def test_statuses_are_those_of_grep(ccapi: Command, three: list[int]) -> None:
    assert three
    for command in ("list", "stats"):
        assert ccapi("jobs", command, "--user", "nobody")[:2] == (1, "")
    status, out, err = ccapi("jobs", "list", "--state", "done")
    assert (status, out) == (2, "")
    assert err.startswith("ccapi: state: must be running or")
    assert ccapi("jobs", "list", "--sort", "duration").err == (
        "ccapi: limit: must be at most 100000 with --sort\n"
    )
    assert ccapi("jobs", "stats", "--step", "0").status == 2
    assert ccapi("jobs", "list", "--typo", "x").status == 2
    assert ccapi("jobs", "show", "987654321")[:2] == (1, "")


def test_status_of_an_unreachable_database_is_2(
    ccapi: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CCAPI_DATABASE_URL", "postgresql:///x?host=/nowhere")
    for arguments in (["list"], ["show", "1"], ["stats"]):
        status, out, err = ccapi("jobs", *arguments)
        assert (status, out) == (2, "")
        assert "check that PostgreSQL runs" in err


def test_show_has_everything(ccapi: Command, three: list[int]) -> None:
    status, out, _ = ccapi("jobs", "show", str(three[0]))
    assert status == 0
    assert "jobState: failed" in out.splitlines()
    assert 'metaData: {"jobName":"rotor"}' in out.splitlines()
    _, out, _ = ccapi("jobs", "show", "--json", str(three[0]))
    assert json.loads(out)["metaData"] == {"jobName": "rotor"}


def test_stats_are_a_table_or_json(ccapi: Command, three: list[int]) -> None:
    assert three
    time = ["--range", f"{START}-{START + HOUR}"]
    status, out, _ = ccapi("jobs", "stats", *time, "--group-by", "user", "--end-states")
    header, first, second = (line.split() for line in out.splitlines())
    assert status == 0
    assert header[:3] == ["user", "numJobs", "nodeHours"]
    assert [first[:2], second[:2]] == [["anna", "2"], ["bert", "1"]]
    _, out, _ = ccapi("jobs", "stats", *time, "--json")
    assert json.loads(out)["numJobs"] == 3
