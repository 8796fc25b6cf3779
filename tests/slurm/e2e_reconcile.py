"""`ccapi reconcile` asks a real Slurm."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from ccapi.config import Config
from tests.client import START, Client
from tests.processes import clean_environment
from tests.slurm.cluster import Slurm, slurm


@pytest.fixture(scope="module")
def cluster(user: None) -> Iterator[Slurm]:
    """Run a Slurm below a directory that its users can enter, unlike pytest's own."""
    place = Path(mkdtemp(prefix="ccapi-slurm-"))
    with slurm(place, "virt") as running:
        yield running
    shutil.rmtree(place, ignore_errors=True)


def reconcile(cluster: Slurm, config: Config, *options: str) -> tuple[int, str]:
    """Run the command in a shell whose variables would spoil what squeue shows."""
    spoiling = {"SQUEUE_USERS": "root", "SLURM_TIME_FORMAT": "relative", "TZ": "Asia/Tokyo"}
    settings = {
        "CCAPI_DATABASE_URL": config.database.url,
        "CCAPI_ARCHIVE_ROOT": str(config.archive.root),
        "SLURM_CONF": str(cluster.conf),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["ccapi", "reconcile", "--cluster", "virt", "--wait", "1s", *options],
        env={**clean_environment(), **spoiling, **settings},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_jobs_that_slurm_runs_no_more_are_stopped_and_those_that_it_runs_are_not(
    cluster: Slurm, config: Config, admin: Client
) -> None:
    forging = "--job-name=x\n1 2020-01-01T00:00:00\n2 2020-01-01T00:00:00"
    running = cluster.sbatch("-n1", forging, script="sleep 600")
    suspended = cluster.sbatch("-n1", script="sleep 600")
    array = cluster.sbatch("-n1", "--array=1-3", script="sleep 600")
    cluster.sbatch("-n1", "--begin=now+1hour")
    both = {running, suspended}
    cluster.wait(
        lambda: list(cluster.queue().values()).count("RUNNING") == 5, 60, "jobs do not run"
    )
    cluster.run("scontrol", "suspend", str(suspended))
    there = {number for number, state in cluster.queue().items() if state != "PENDING"}
    assert len(there) == 5
    assert both < there
    assert array in there
    # What started within the last minute is passed over; a minute's difference is none.
    earlier = int(time.time()) - 50
    for number in there:
        admin.start(cluster="virt", jobId=number, startTime=earlier)
    admin.start(cluster="virt", jobId=999_999, startTime=START)
    time.sleep(12)
    status, said = reconcile(cluster, config, "--apply")
    assert "accounting storage is disabled" in said
    assert "0 missing, 1 stopped\n" in said
    assert status == 0
    assert {job["jobId"] for job in admin.list("state=running")} == there
    assert reconcile(cluster, config) == (0, "registry and Slurm agree on 5 running jobs\n")


def test_without_slurmctld_or_with_hidden_jobs_nothing_is_done(
    cluster: Slurm, config: Config, admin: Client
) -> None:
    admin.start(cluster="virt", startTime=START)
    status, said = reconcile(cluster, config, "--apply", "--slurm-cluster", "other")
    assert (status, "about cluster virt here, not other" in said) == (1, True)
    cluster.run("scontrol", "shutdown", "slurmctld")
    status, said = reconcile(cluster, config, "--apply")
    assert (status, "Unable to contact slurm controller" in said) == (1, True)
    assert [job["jobState"] for job in admin.list()] == ["running"]
