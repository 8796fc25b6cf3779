"""Every field of jobs of all shapes equals sacct's, on a real Slurm with slurmdbd."""

import time
from collections.abc import Iterator
from functools import partial

import pytest

from ccapi.db.pool import Database
from ccapi.embedded import PrivatePostgres
from tests.conftest import empty
from tests.processes import gunicorn
from tests.slurm import accounting
from tests.slurm.cluster import USER
from tests.slurm.connected_slurm import JOBCOMP, ConnectedSlurm, connected_slurm
from tests.slurm.sacct_runs import (
    BURST,
    COMMAND,
    FIELDS,
    Row,
    differences,
    row_of_ccapi,
    rows_of_sacct,
)

_SHRINK = "sleep 2; scontrol update JobId=$SLURM_JOB_ID NumNodes=1; sleep 3"


@pytest.fixture(scope="module")
def connected(
    user: None,
    postgres: PrivatePostgres,
    _migrated: Database,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ConnectedSlurm]:
    """Run all jobs on a cluster whose requeued jobs start again at once."""
    if reason := accounting.install_packages():
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("service")
    settings = {
        "CCAPI_DATABASE_URL": postgres.url,
        "CCAPI_ARCHIVE_ROOT": str(directory / "job-archive"),
        "CCAPI_JOBS_DUPLICATE_WINDOW": "0",
    }
    empty(_migrated)
    with (
        gunicorn(settings, directory, workers=2) as service,
        connected_slurm("sacct", service, _migrated, JOBCOMP, accounting.slurmdbd) as connected,
        connected.site.sender("slurm"),
    ):
        submit(connected)
        connected.slurm.wait(lambda: not connected.slurm.queue(), 240, "the queue does not empty")
        connected.slurm.wait(lambda: not connected.site.names(), 60, "events are left")
        yield connected


def submit(connected: ConnectedSlurm) -> None:
    """Submit a burst of jobs, and jobs of all shapes, some of which do not end by themselves."""
    sbatch, run, here = connected.slurm.sbatch, connected.slurm.run, "--exclude=n[3-4]"
    run("sacctmgr", "-i", "add", "account", "hpc")
    run("sacctmgr", "-i", "add", "user", USER, "account=hpc")
    long = {
        "timeout": sbatch("-wn1", "-t1", script="sleep 600"),
        "preempted": sbatch("-plow", "-wn4", "--exclusive", script="sleep 600"),
        "node down": sbatch("-wn3", "--no-requeue", script="sleep 600"),
        "requeue": sbatch(here, "--requeue", script="sleep 8"),
        "requeuehold": sbatch(here, "--requeue", script="sleep 8"),
        "suspended": sbatch(here, script="sleep 6"),
        "cancelled": sbatch(here, script="sleep 600"),
    }
    names = {number: name for name, number in long.items()}
    connected.slurm.wait(
        lambda: {connected.slurm.queue().get(number) for number in names} == {"RUNNING"},
        60,
        "no start",
    )
    time.sleep(1.5)
    run("scontrol", "suspend", str(long["suspended"]))
    run("scontrol", "requeue", str(long["requeue"]))
    run("scontrol", "requeuehold", str(long["requeuehold"]))
    run("scancel", str(long["cancelled"]), str(sbatch("--hold")))
    run("scontrol", "update", "NodeName=n3", "State=DOWN", "Reason=test")
    submit_short(connected)
    run("scontrol", "resume", str(long["suspended"]))
    for name in ("requeue", "requeuehold"):
        number = long[name]
        connected.slurm.wait(partial(is_pending, connected, number), 60, f"no {name}")
        run("scontrol", "release", str(number))
        run("scontrol", "update", f"JobId={number}", "StartTime=now")


def submit_short(connected: ConnectedSlurm) -> None:
    """Submit jobs that end by themselves."""
    sbatch, here = connected.slurm.sbatch, "--exclude=n[3-4]"
    for options in (
        ["-wn4", "--exclusive"], ["-n1", "-J", ""], ["-n3", "-t5"], ["-N2", "-n4", "--gres=gpu:1"],
        ["-N1", "--gres=gpu:2"], ["--exclusive", "-n1"], ["--exclusive=user", "-n1"],
        ["-pwhole", "-n1"], ["--oversubscribe", "-n1"], ["--array=1-6%2"], ["-n1", ":", "-n2"],
        ["-n2", "--hint=nomultithread"], ["-n2", "--mem-per-cpu=1"], ["-J", "größe\n|two"],
    ):  # fmt: skip
        sbatch(*([] if "-wn4" in options else [here]), *options, script="sleep 1")
    for script in ("exit 3", "kill -SEGV $$", _SHRINK):
        sbatch(here, "-N2", script=script)
    connected.slurm.run("srun", here, "--chdir=/", "true", user=USER)
    sbatch(f"--array=1-{BURST}", here, script="true")


def is_pending(connected: ConnectedSlurm, number: int) -> bool:
    return connected.slurm.queue().get(number) == "PENDING"


def slurmdbd_rows(connected: ConnectedSlurm) -> list[Row]:
    return rows_of_sacct(connected.slurm.run(*COMMAND, "-o", FIELDS))


def test_every_run_equals_that_of_sacct(connected: ConnectedSlurm) -> None:
    expected = slurmdbd_rows(connected)
    assert len(expected) >= BURST + 30
    assert {row.state for row in expected} == {
        "completed", "failed", "timeout", "preempted", "node_fail", "cancelled", "stopped",
    }  # fmt: skip
    rows = [row_of_ccapi(job) for job in connected.jobs()]
    assert len(rows) == len(expected)
    assert differences(expected, rows) == []
    assert connected.site.names("dead") == []


def test_backfill_equals_sacct(connected: ConnectedSlurm) -> None:
    """The same jobs, registered as those of another cluster, from slurmdbd alone."""
    connected.configure(CCAPI_CLUSTER="backfill")
    day = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 3600))
    backfill = connected.site.run_sender("backfill", "--since", day)
    connected.configure()
    assert backfill.returncode == 0, backfill.stdout + backfill.stderr
    expected = slurmdbd_rows(connected)
    jobs = connected.jobs("backfill")
    assert differences(expected, [row_of_ccapi(job) for job in jobs]) == []
