"""`ccapi reconcile` beside programs that stand in for Slurm's own."""

import os
import time
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import pytest

from ccapi.context import Context
from tests.cli.conftest import Command
from tests.client import START, Client

# By name: the package has the command of the same name.
COMMAND = import_module("ccapi.cli.reconcile")
BEGAN = "2023-11-14T22:13:20"
CONFIG = "Configuration data as of now\nClusterName = fritz\nPrivateData = none\nSlurmUser = x(9)"


class Slurm:
    """What the programs answer; each notes how it was called."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.says("squeue", "")
        self.says("scontrol", CONFIG)
        self.fails("sacct", "Slurm accounting storage is disabled")

    def says(self, program: str, *lines: str) -> None:
        """Let a program print lines and succeed."""
        answer = self.directory / f"{program}.answer"
        answer.write_text("".join(f"{line}\n" for line in lines if line))
        self._write(program, f"cat '{answer}'")

    def fails(self, program: str, reason: str) -> None:
        """Let a program print nothing but a reason, and fail."""
        self._write(program, f"echo '{program}: {reason}' >&2; exit 1")

    def lacks(self, program: str) -> None:
        (self.directory / program).unlink()

    def calls(self, program: str) -> str:
        """Return the arguments and the environment of a program's calls."""
        noted = self.directory / f"{program}.calls"
        return noted.read_text() if noted.exists() else ""

    def _write(self, program: str, command: str) -> None:
        file = self.directory / program
        noted = self.directory / f"{program}.calls"
        file.write_text(f"#!/bin/sh\n{{ echo \"$@\"; env; }} >> '{noted}'\n{command}\n")
        file.chmod(0o755)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    """Put the programs on PATH, alone with what a shell script needs."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("cat", "env"):
        (directory / name).symlink_to(f"/usr/bin/{name}")
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setattr(COMMAND, "sleep", lambda _: None)
    return Slurm(directory)


def run(*numbers: int) -> list[str]:
    """Write squeue's lines of jobs that run since START."""
    return [f"{number} {BEGAN}" for number in numbers]


def states(client: Client) -> dict[int, str]:
    return {job["jobId"]: job["jobState"] for job in client.list()}


def test_agreement_is_one_line(ccapi: Command, slurm: Slurm, writer: Client) -> None:
    writer.start(jobId=1)
    slurm.says("squeue", *run(1))
    expected = (0, "registry and Slurm agree on 1 running jobs\n", "")
    assert ccapi("reconcile", "--cluster", "fritz") == expected
    assert ccapi("reconcile", "--cluster", "fritz", "--apply") == expected


def test_differences_are_named_and_left_with_status_1(
    ccapi: Command, slurm: Slurm, writer: Client
) -> None:
    for number in (1, 2):
        writer.start(jobId=number, walltime=3600)
    slurm.says("squeue", *run(2, 3))
    status, out, err = ccapi("reconcile", "--cluster", "fritz")
    assert (status, out) == (1, (
        "missing  jobId 3, started 2023-11-14T22:13:20Z\n"
        "stale    jobId 1, started 2023-11-14T22:13:20Z: stopped at 2023-11-14T23:13:20Z\n"
        "1 missing, 1 stale\n"
    ))  # fmt: skip
    reason = "sacct failed with status 1: sacct: Slurm accounting storage is disabled"
    assert err == f"without the true ends: {reason}\n"
    assert states(writer) == {1: "running", 2: "running"}


def test_applied_the_stale_are_stopped_and_archived_and_then_there_is_agreement(
    ccapi: Command, slurm: Slurm, writer: Client, context: Context
) -> None:
    for number in (1, 2):
        writer.start(jobId=number)
    slurm.says("squeue", *run(2))
    before = int(time.time())
    status, out, _ = ccapi("reconcile", "--cluster", "fritz", "--apply", "--state", "failed")
    assert (status, out.splitlines()[-1]) == (0, "0 missing, 1 stopped")
    assert states(writer) == {1: "failed", 2: "running"}
    [job] = writer.list("state=failed")
    assert before <= START + job["duration"] <= time.time()
    assert len(list(context.archive_root.rglob("meta.json"))) == 1
    status, out, _ = ccapi("reconcile", "--cluster", "fritz", "--apply")
    assert (status, out) == (0, "registry and Slurm agree on 1 running jobs\n")


def test_missing_jobs_are_left_with_status_1_even_if_applied(ccapi: Command, slurm: Slurm) -> None:
    slurm.says("squeue", *run(3))
    status, out, _ = ccapi("reconcile", "--cluster", "fritz", "--apply")
    assert (status, out.splitlines()[-1]) == (1, "1 missing, 0 stopped")


def test_how_and_when_a_job_ended_is_taken_from_sacct(
    ccapi: Command, slurm: Slurm, writer: Client
) -> None:
    ends = {
        1: ("COMPLETED", "completed"), 2: ("CANCELLED by 1000", "cancelled"),
        3: ("TIMEOUT", "timeout"), 4: ("NODE_FAIL", "failed"), 5: ("OUT_OF_MEMORY",) * 2,
        6: ("PREEMPTED", "preempted"), 7: ("REQUEUED", "stopped"), 8: ("DEADLINE", "timeout"),
    }  # fmt: skip
    for number in ends:
        writer.start(jobId=number)
    slurm.says(
        "sacct",
        "1|2023-11-10T00:00:00|2023-11-11T00:00:00|FAILED",  # an earlier job of this number
        *(f"{number}|{BEGAN}|2023-11-14T22:15:00|{said}" for number, (said, _) in ends.items()),
        "rubbish",
    )
    assert ccapi("reconcile", "--cluster", "fritz", "--apply").status == 0
    assert states(writer) == {number: state.lower() for number, (_, state) in ends.items()}
    assert {job["duration"] for job in writer.list()} == {100}
    assert "--jobs=1,2,3,4,5,6,7,8" in slurm.calls("sacct")
    assert "--starttime=2023-11-14T00:00:00" in slurm.calls("sacct")


def test_what_sacct_takes_for_running_has_no_end(
    ccapi: Command, slurm: Slurm, writer: Client
) -> None:
    writer.start(jobId=1, walltime=60)
    slurm.says("sacct", f"1|{BEGAN}|Unknown|RUNNING")
    out = ccapi("reconcile", "--cluster", "fritz", "--apply").out
    assert "stopped at 2023-11-14T22:14:20Z" in out


def test_no_sacct_is_no_failure(ccapi: Command, slurm: Slurm, writer: Client) -> None:
    writer.start(jobId=1)
    slurm.lacks("sacct")
    status, _, err = ccapi("reconcile", "--cluster", "fritz", "--apply")
    assert (status, err) == (0, "without the true ends: sacct is not installed here\n")
    assert states(writer) == {1: "stopped"}


def test_a_stop_that_arrives_while_it_waits_is_no_difference(
    ccapi: Command, slurm: Slurm, writer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.start(jobId=1)
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        writer.stop(jobId=1)

    monkeypatch.setattr(COMMAND, "sleep", wait)
    assert ccapi("reconcile", "--cluster", "fritz", "--apply", "--wait", "5m").status == 0
    assert waits == [300]
    assert states(writer) == {1: "completed"}
    assert slurm.calls("sacct") == ""


def break_squeue(slurm: Slurm) -> None:
    slurm.fails("squeue", "slurm_load_jobs error: Unable to contact slurm controller")


def break_scontrol(slurm: Slurm) -> None:
    slurm.fails("scontrol", "Unable to contact slurm controller")


UNRELIABLE = {
    "squeue fails": (break_squeue, "Unable to contact slurm controller"),
    "squeue is not there": (lambda slurm: slurm.lacks("squeue"), "squeue is not installed here"),
    "slurmctld is out of reach": (break_scontrol, "Unable to contact slurm controller"),
    "another cluster": (
        lambda slurm: slurm.says("scontrol", "ClusterName = alex"), "about cluster alex"),
    "no cluster": (lambda slurm: slurm.says("scontrol", "Slurmctld is UP"), "(unknown)"),
    "others' jobs are hidden": (
        lambda slurm: slurm.says("scontrol", CONFIG.replace("none", "accounts,jobs")), "root"),
    "rubbish": (lambda slurm: slurm.says("squeue", "squeue: error"), "squeue said"),
    "a name as a time": (lambda slurm: slurm.says("squeue", "1 rotor"), "which is no time"),
    "a local time": (lambda slurm: slurm.says("squeue", "1 Tue 22:13"), "which is no time"),
    "job 0": (lambda slurm: slurm.says("squeue", f"0 {BEGAN}"), "squeue said"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNRELIABLE)
def test_nothing_is_done_when_squeue_cannot_be_relied_on(
    ccapi: Command, slurm: Slurm, writer: Client, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    writer.start(jobId=1)
    make, words = UNRELIABLE[name]
    make(slurm)
    status, out, err = ccapi("reconcile", "--cluster", "fritz", "--apply")
    assert (status, out) == (1, "")
    assert err.startswith("ccapi: ")
    assert err.count("\n") == 1
    assert words in err
    assert states(writer) == {1: "running"}


@pytest.mark.parametrize("user", [0, 9], ids=["root", "SlurmUser"])
def test_slurms_administrators_see_hidden_jobs(
    ccapi: Command, slurm: Slurm, monkeypatch: pytest.MonkeyPatch, user: int
) -> None:
    slurm.says("scontrol", CONFIG.replace("none", "jobs"))
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert ccapi("reconcile", "--cluster", "fritz").status == 0


def test_a_cluster_may_have_another_name_in_slurm(
    ccapi: Command, slurm: Slurm, writer: Client
) -> None:
    writer.start(jobId=1, cluster="alex")
    slurm.says("squeue", *run(1))
    arguments = ("reconcile", "--cluster", "alex")
    assert ccapi(*arguments).status == 1
    assert ccapi(*arguments, "--slurm-cluster", "fritz").status == 0


def test_a_job_that_waits_for_its_next_life_does_not_run(
    ccapi: Command, slurm: Slurm, writer: Client
) -> None:
    writer.start(jobId=1)
    tomorrow = f"{datetime.fromtimestamp(time.time() + 86_400, UTC):%Y-%m-%dT%H:%M:%S}"
    slurm.says("squeue", "1 N/A", f"2 {tomorrow}")
    assert ccapi("reconcile", "--cluster", "fritz").out.endswith("0 missing, 1 stale\n")


def test_slurms_programs_are_asked_alike_whatever_the_users_environment(
    ccapi: Command, slurm: Slurm, writer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.start(jobId=1)
    for name in ("SQUEUE_USERS", "SLURM_TIME_FORMAT", "SACCT_FORMAT", "SLURM_CLUSTERS"):
        monkeypatch.setenv(name, "relative")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("SLURM_CONF", "/etc/ours.conf")
    ccapi("reconcile", "--cluster", "fritz")
    for program in ("squeue", "scontrol", "sacct"):
        call = slurm.calls(program)
        assert "relative" not in call
        assert "\nTZ=UTC\n" in call
        assert "\nSLURM_CONF=/etc/ours.conf\n" in call


def test_many_stale_jobs_are_looked_up_some_at_a_time(
    ccapi: Command, slurm: Slurm, writer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccapi.cli.slurm._IDS_AT_ONCE", 2)
    for number in (1, 2, 3):
        writer.start(jobId=number)
    slurm.says("sacct", f"3|{BEGAN}|2023-11-14T22:15:00|FAILED")
    assert ccapi("reconcile", "--cluster", "fritz", "--apply").status == 0
    assert slurm.calls("sacct").count("--jobs=") == 2
    assert states(writer) == {1: "stopped", 2: "stopped", 3: "failed"}


@pytest.mark.usefixtures("slurm", "database")
@pytest.mark.parametrize(
    "arguments",
    [[], ["--cluster", "fritz", "--state", "running"], ["--cluster", "fritz", "--wait", "soon"]],
    ids=["no cluster", "no final state", "no time"],
)
def test_a_bad_command_line_is_refused(ccapi: Command, arguments: list[str]) -> None:
    assert ccapi("reconcile", *arguments).status == 2
