"""`ccapi reconcile` with scripts in place of Slurm's commands."""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import pytest

from ccapi.context import Context
from tests.cli.conftest import Command
from tests.client import START, Client

# Imported by name, because the package has a command of the same name.
COMMAND = import_module("ccapi.cli.reconcile")
START_TEXT = "2023-11-14T22:13:20"
CONFIG = "Configuration data as of now\nClusterName = fritz\nPrivateData = none\nSlurmUser = x(9)"


class Slurm:
    """Scripts that print configured output and log how they were called."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.prints("squeue", "")
        self.prints("scontrol", CONFIG)
        self.fails("sacct", "Slurm accounting storage is disabled")

    def prints(self, program: str, *lines: str) -> None:
        """Make a command print lines and succeed."""
        output = self.directory / f"{program}.output"
        output.write_text("".join(f"{line}\n" for line in lines if line))
        self._write(program, f"cat '{output}'")

    def fails(self, program: str, reason: str) -> None:
        """Make a command print a reason to stderr and fail."""
        self._write(program, f"echo '{program}: {reason}' >&2; exit 1")

    def remove(self, program: str) -> None:
        (self.directory / program).unlink()

    def calls(self, program: str) -> str:
        """Return the arguments and the environments of a command's calls."""
        log = self.directory / f"{program}.calls"
        return log.read_text() if log.exists() else ""

    def _write(self, program: str, command: str) -> None:
        script = self.directory / program
        log = self.directory / f"{program}.calls"
        script.write_text(f"#!/bin/sh\n{{ echo \"$@\"; env; }} >> '{log}'\n{command}\n")
        script.chmod(0o755)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    """Make PATH a directory with Slurm's commands and what the scripts need."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("cat", "env"):
        (directory / name).symlink_to(f"/usr/bin/{name}")
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setattr(COMMAND, "sleep", lambda _: None)
    return Slurm(directory)


def squeue_lines(*job_ids: int) -> list[str]:
    """Return squeue's lines for running jobs that started at START."""
    return [f"{job_id} {START_TEXT} R" for job_id in job_ids]


def states(client: Client) -> dict[int, str]:
    return {job["jobId"]: job["jobState"] for job in client.list()}


def test_agreement_is_one_line(ccapi: Command, slurm: Slurm, writer: Client) -> None:
    writer.start(jobId=1)
    slurm.prints("squeue", *squeue_lines(1))
    expected = (0, "ccapi and Slurm agree on 1 running jobs\n", "")
    assert ccapi("reconcile", "--cluster", "fritz") == expected
    assert ccapi("reconcile", "--cluster", "fritz", "--apply") == expected


def test_differences_without_apply_exit_with_1(
    ccapi: Command, slurm: Slurm, writer: Client
) -> None:
    for job_id in (1, 2):
        writer.start(jobId=job_id, walltime=3600)
    slurm.prints("squeue", *squeue_lines(2, 3))
    status, out, err = ccapi("reconcile", "--cluster", "fritz")
    assert (status, out) == (1, (
        "missing  jobId 3, started 2023-11-14T22:13:20Z\n"
        "stale    jobId 1, started 2023-11-14T22:13:20Z: stopped at 2023-11-14T23:13:20Z\n"
        "1 missing, 1 stale\n"
    ))  # fmt: skip
    reason = "sacct failed with status 1: sacct: Slurm accounting storage is disabled"
    assert err == f"sacct is not available, using the default end state: {reason}\n"
    assert states(writer) == {1: "running", 2: "running"}


def test_apply_stops_and_archives_stale_jobs(
    ccapi: Command, slurm: Slurm, writer: Client, context: Context
) -> None:
    for job_id in (1, 2):
        writer.start(jobId=job_id)
    slurm.prints("squeue", *squeue_lines(2))
    before = int(time.time())
    status, out, _ = ccapi("reconcile", "--cluster", "fritz", "--apply", "--state", "failed")
    assert (status, out.splitlines()[-1]) == (0, "0 missing, 1 stopped")
    assert states(writer) == {1: "failed", 2: "running"}
    [job] = writer.list("state=failed")
    assert before <= START + job["duration"] <= time.time()
    assert len(list(context.archive_root.rglob("meta.json"))) == 1
    status, out, _ = ccapi("reconcile", "--cluster", "fritz", "--apply")
    assert (status, out) == (0, "ccapi and Slurm agree on 1 running jobs\n")


def test_missing_jobs_exit_with_1_even_with_apply(ccapi: Command, slurm: Slurm) -> None:
    slurm.prints("squeue", *squeue_lines(3))
    status, out, _ = ccapi("reconcile", "--cluster", "fritz", "--apply")
    assert (status, out.splitlines()[-1]) == (1, "1 missing, 0 stopped")


def test_state_and_stop_time_come_from_sacct(ccapi: Command, slurm: Slurm, writer: Client) -> None:
    ends = {
        1: ("COMPLETED", "completed"),
        2: ("CANCELLED by 1000", "cancelled"),
        3: ("TIMEOUT", "timeout"),
        4: ("NODE_FAIL", "node_fail"),
        5: ("OUT_OF_MEMORY", "out_of_memory"),
        6: ("PREEMPTED", "preempted"),
        7: ("REQUEUED", "stopped"),
        8: ("DEADLINE", "deadline"),
        9: ("BOOT_FAIL", "boot_fail"),
        10: ("LAUNCH_FAILED", "failed"),
        11: ("RECONFIG_FAIL", "failed"),
    }
    for job_id in ends:
        writer.start(jobId=job_id)
    slurm.prints(
        "sacct",
        "1|2023-11-10T00:00:00|2023-11-11T00:00:00|FAILED",  # an earlier job with this id
        *(
            f"{job_id}|{START_TEXT}|2023-11-14T22:15:00|{slurm_state}"
            for job_id, (slurm_state, _) in ends.items()
        ),
        "rubbish",
    )
    assert ccapi("reconcile", "--cluster", "fritz", "--apply").status == 0
    assert states(writer) == {job_id: state for job_id, (_, state) in ends.items()}
    assert {job["duration"] for job in writer.list()} == {100}
    assert "--jobs=1,2,3,4,5,6,7,8,9,10,11" in slurm.calls("sacct")
    assert "--starttime=2023-11-14T00:00:00" in slurm.calls("sacct")


def test_parts_of_a_resized_job_are_one_run(ccapi: Command, slurm: Slurm, writer: Client) -> None:
    for job_id in (1, 2):
        writer.start(jobId=job_id)
    slurm.prints(
        "sacct",
        "1|2023-11-14T22:30:00|2023-11-14T22:40:00|COMPLETED",
        f"1|{START_TEXT}|2023-11-14T22:20:00|RESIZING",
        "1|2023-11-14T22:20:00|2023-11-14T22:30:00|RESIZING",
        f"2|{START_TEXT}|2023-11-14T22:13:10|NODE_FAIL",
    )
    _, out, _ = ccapi("reconcile", "--cluster", "fritz")
    assert out.splitlines()[:2] == [
        "stale    jobId 1, started 2023-11-14T22:13:20Z: completed at 2023-11-14T22:40:00Z",
        "stale    jobId 2, started 2023-11-14T22:13:20Z: node_fail at 2023-11-14T22:13:20Z",
    ]


def test_job_that_ended_too_early_runs_again(
    ccapi: Command, slurm: Slurm, writer: Client, context: Context
) -> None:
    ids = [writer.start(jobId=job_id) for job_id in (1, 2, 3)]
    writer.start(jobId=4, monitoringStatus=0)
    for job_id in (1, 2, 4):
        writer.stop(jobId=job_id, jobState="failed", stopTime=START + 60)
    writer.stop(jobId=3, stopTime=int(time.time()) + 1)
    # Job 2 is completing, and the end of job 3 is recent.
    lines = [f"{job_id} {START_TEXT} R" for job_id in (1, 3, 4)]
    slurm.prints("squeue", *lines, f"2 {START_TEXT} CG")
    status, out, _ = ccapi("reconcile", "--cluster", "fritz")
    assert (status, out.splitlines()) == (1, [
        "ended too early jobId 1, started 2023-11-14T22:13:20Z: failed at 2023-11-14T22:14:20Z",
        "ended too early jobId 4, started 2023-11-14T22:13:20Z: failed at 2023-11-14T22:14:20Z",
        "0 missing, 0 stale, 2 ended too early",
    ])  # fmt: skip
    status, out, _ = ccapi("reconcile", "--cluster", "fritz", "--apply")
    assert (status, out.splitlines()[-1]) == (0, "0 missing, 0 stopped, 2 reopened")
    expected = {1: "running", 2: "failed", 3: "completed", 4: "running"}
    assert states(writer) == expected
    history = ccapi("jobs", "history", str(ids[0]))[1].splitlines()
    assert history[1].endswith("ccapi reconcile: failed at 2023-11-14T22:14:20Z -> running")
    assert history[2] == "now running"
    assert ccapi("reconcile", "--cluster", "fritz")[0] == 0
    job = writer.stop(jobId=1, stopTime=START + 600)
    assert (job["duration"], job["monitoringStatus"]) == (600, 3)
    [path] = context.archive_root.glob("fritz/0/001/*/meta.json")
    assert b'"duration":600' in path.read_bytes()


def test_job_that_runs_in_sacct_gets_the_default_state(
    ccapi: Command, slurm: Slurm, writer: Client
) -> None:
    writer.start(jobId=1, walltime=60)
    slurm.prints("sacct", f"1|{START_TEXT}|Unknown|RUNNING")
    out = ccapi("reconcile", "--cluster", "fritz", "--apply").out
    assert "stopped at 2023-11-14T22:14:20Z" in out


def test_missing_sacct_is_not_a_failure(ccapi: Command, slurm: Slurm, writer: Client) -> None:
    writer.start(jobId=1)
    slurm.remove("sacct")
    status, _, err = ccapi("reconcile", "--cluster", "fritz", "--apply")
    assert (status, err) == (
        0,
        "sacct is not available, using the default end state: sacct is not installed here\n",
    )
    assert states(writer) == {1: "stopped"}


def test_stop_that_arrives_during_the_wait_is_not_a_difference(
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


UNRELIABLE: dict[str, tuple[Callable[[Slurm], None], str]] = {
    "squeue fails": (break_squeue, "Unable to contact slurm controller"),
    "squeue is not installed": (lambda slurm: slurm.remove("squeue"), "is not installed here"),
    "slurmctld does not answer": (break_scontrol, "Unable to contact slurm controller"),
    "another cluster": (
        lambda slurm: slurm.prints("scontrol", "ClusterName = alex"),
        "cluster here is alex",
    ),
    "no cluster": (lambda slurm: slurm.prints("scontrol", "Slurmctld is UP"), "(unknown)"),
    "others' jobs are hidden": (
        lambda slurm: slurm.prints("scontrol", CONFIG.replace("none", "accounts,jobs")),
        "root",
    ),
    "invalid line": (lambda slurm: slurm.prints("squeue", "squeue: error"), "unexpected line"),
    "a name as a time": (lambda slurm: slurm.prints("squeue", "1 rotor"), "unexpected time"),
    "a local time": (lambda slurm: slurm.prints("squeue", "1 Tue 22:13"), "unexpected time"),
    "job 0": (lambda slurm: slurm.prints("squeue", f"0 {START_TEXT}"), "unexpected line"),
}


@pytest.mark.parametrize("problem", UNRELIABLE)
def test_unreliable_squeue_stops_nothing(
    ccapi: Command, slurm: Slurm, writer: Client, monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    writer.start(jobId=1)
    cause, message = UNRELIABLE[problem]
    cause(slurm)
    status, out, err = ccapi("reconcile", "--cluster", "fritz", "--apply")
    assert (status, out) == (2, "")
    assert err.startswith("ccapi: ")
    assert err.count("\n") == 1
    assert message in err
    assert states(writer) == {1: "running"}


@pytest.mark.parametrize("user", [0, 9], ids=["root", "SlurmUser"])
def test_private_data_does_not_matter_to_root_and_slurm_user(
    ccapi: Command, slurm: Slurm, monkeypatch: pytest.MonkeyPatch, user: int
) -> None:
    slurm.prints("scontrol", CONFIG.replace("none", "jobs"))
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert ccapi("reconcile", "--cluster", "fritz").status == 0


def test_slurm_cluster_option(ccapi: Command, slurm: Slurm, writer: Client) -> None:
    writer.start(jobId=1, cluster="alex")
    slurm.prints("squeue", *squeue_lines(1))
    arguments = ("reconcile", "--cluster", "alex")
    assert ccapi(*arguments).status == 2
    assert ccapi(*arguments, "--slurm-cluster", "fritz").status == 0


def test_requeued_job_without_a_start_is_not_running(
    ccapi: Command, slurm: Slurm, writer: Client
) -> None:
    writer.start(jobId=1)
    tomorrow = f"{datetime.fromtimestamp(time.time() + 86_400, UTC):%Y-%m-%dT%H:%M:%S}"
    slurm.prints("squeue", "1 N/A", f"2 {tomorrow}")
    assert ccapi("reconcile", "--cluster", "fritz").out.endswith("0 missing, 1 stale\n")


def test_environment_of_slurms_commands(
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


def test_sacct_is_called_in_batches(
    ccapi: Command, slurm: Slurm, writer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccapi.cli.slurm._BATCH_SIZE", 2)
    for job_id in (1, 2, 3):
        writer.start(jobId=job_id)
    slurm.prints("sacct", f"3|{START_TEXT}|2023-11-14T22:15:00|FAILED")
    assert ccapi("reconcile", "--cluster", "fritz", "--apply").status == 0
    assert slurm.calls("sacct").count("--jobs=") == 2
    assert states(writer) == {1: "stopped", 2: "stopped", 3: "failed"}


@pytest.mark.usefixtures("slurm", "database")
@pytest.mark.parametrize(
    "arguments",
    [[], ["--cluster", "fritz", "--state", "running"], ["--cluster", "fritz", "--wait", "soon"]],
    ids=["no cluster", "no final state", "invalid duration"],
)
def test_invalid_options_are_refused(ccapi: Command, arguments: list[str]) -> None:
    assert ccapi("reconcile", *arguments).status == 2
