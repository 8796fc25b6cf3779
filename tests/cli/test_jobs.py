import time

import pytest

from tests.cli.conftest import Command
from tests.client import START, Client, stop

HOUR = 3600


def start(client: Client, number: int, *, ago: int, walltime: int, cluster: str = "fritz") -> int:
    began = int(time.time()) - ago
    return client.start(jobId=number, startTime=began, walltime=walltime, cluster=cluster)


@pytest.fixture
def several(writer: Client) -> int:
    """One job that is an hour over its walltime, and several that are in time; return its id."""
    late = start(writer, 1, ago=2 * HOUR, walltime=HOUR)
    start(writer, 2, ago=2 * HOUR, walltime=2 * HOUR - 300)
    start(writer, 3, ago=2 * HOUR, walltime=3 * HOUR)
    start(writer, 4, ago=2 * HOUR, walltime=0)
    start(writer, 5, ago=2 * HOUR, walltime=2**63 - 1)
    start(writer, 6, ago=2 * HOUR, walltime=60)
    writer.stop(jobId=6, stopTime=int(time.time()))
    return late


def test_overdue_lists_jobs_past_their_walltime(ccapi: Command, several: int) -> None:
    status, out, err = ccapi("jobs", "overdue")
    header, line = out.splitlines()
    assert (status, err) == (1, "")
    assert header.split() == [
        "ID",
        "JOBID",
        "CLUSTER",
        "STARTED",
        "WALLTIME",
        "OVER",
        "BY",
    ]
    id_, job_id, cluster, *_, walltime, over = line.split()
    assert (int(id_), job_id, cluster, walltime) == (several, "1", "fritz", "1:00:00")
    assert over.startswith(("0:59:", "1:00:", "1:01:"))


@pytest.mark.usefixtures("several")
@pytest.mark.parametrize(("grace", "number"), [("1s", 2), ("10m", 1), ("2h", 0)])
def test_overdue_grace(ccapi: Command, grace: str, number: int) -> None:
    status, out, _ = ccapi("jobs", "overdue", "--grace", grace)
    assert status == (1 if number else 0)
    assert out.count(" fritz ") == number


@pytest.mark.usefixtures("several")
def test_overdue_jobs_of_one_cluster(ccapi: Command, writer: Client) -> None:
    start(writer, 7, ago=HOUR, walltime=60, cluster="alex")
    status, out, _ = ccapi("jobs", "overdue", "--cluster", "alex")
    assert (status, len(out.splitlines()), " alex " in out) == (1, 2, True)
    assert ccapi("jobs", "overdue", "--cluster", "woody") == (
        0, "no running job is past its walltime\n", ""
    )  # fmt: skip


def test_history_has_a_line_for_each_correction(ccapi: Command, admin: Client) -> None:
    id_ = admin.start()
    body = {"cluster": "fritz", "asOf": START + 7200, "jobs": []}
    admin.send("POST", "/reconcile/?dry-run=false", body)
    admin.send("POST", f"/correct_job/{id_}", {"jobState": "timeout", "stopTime": START + 3600})
    status, out, err = ccapi("jobs", "history", str(id_))
    job, first, second, now = out.splitlines()
    assert (status, err) == (0, "")
    assert job == "jobId 123000 on fritz, started 2023-11-14T22:13:20Z"
    assert first.endswith(" test-admin: running -> stopped at 2023-11-15T00:13:20Z")
    assert second.endswith(
        " test-admin: stopped at 2023-11-15T00:13:20Z -> timeout at 2023-11-14T23:13:20Z"
    )
    assert now == "now timeout at 2023-11-14T23:13:20Z"


def test_history_without_corrections(ccapi: Command, writer: Client) -> None:
    out = ccapi("jobs", "history", str(writer.start())).out
    assert out.splitlines()[1:] == ["now running"]


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(("id_", "status"), [("7", 2), ("x", 2), ("0", 2), (str(2**63), 2)])
def test_history_of_an_unknown_job_is_rejected(ccapi: Command, id_: str, status: int) -> None:
    outcome = ccapi("jobs", "history", id_)
    assert (outcome.status, outcome.out) == (status, "")
    assert id_ in outcome.err


def test_ids_of_lost_jobs_are_not_given_out_again(ccapi: Command, writer: Client) -> None:
    """After a restore, the sequence has the state of the backup."""
    first = writer.start(jobId=1)
    lost = [first + number for number in range(1, 50)]
    status, out, _ = ccapi("jobs", "skip-ids")
    second = writer.start(jobId=2)
    assert (status, out) == (0, f"the next job gets the database id {second}\n")
    assert second > first + 1_000_000
    for id_ in lost:
        assert writer.send("POST", f"/stop_job/{id_}", stop()).status_code == 422
