"""`ccapi reconcile` with a real Slurm."""

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
    """Run a Slurm in a directory that its users can enter, unlike pytest's."""
    directory = Path(mkdtemp(prefix="ccapi-slurm-"))
    with slurm(directory, "virt") as running:
        yield running
    shutil.rmtree(directory, ignore_errors=True)


def reconcile(cluster: Slurm, config: Config, *options: str) -> tuple[int, str]:
    """Run the command with variables that would change squeue's output."""
    misleading = {"SQUEUE_USERS": "root", "SLURM_TIME_FORMAT": "relative", "TZ": "Asia/Tokyo"}
    settings = {
        "CCAPI_DATABASE_URL": config.database.url,
        "CCAPI_ARCHIVE_ROOT": str(config.archive.root),
        "SLURM_CONF": str(cluster.conf),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    process = subprocess.run(
        ["ccapi", "reconcile", "--cluster", "virt", "--wait", "1s", *options],
        env={**clean_environment(), **misleading, **settings},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return process.returncode, process.stdout + process.stderr


def test_only_jobs_that_slurm_no_longer_runs_are_stopped(
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
    slurm_jobs = {number for number, state in cluster.queue().items() if state != "PENDING"}
    assert len(slurm_jobs) == 5
    assert both < slurm_jobs
    assert array in slurm_jobs
    # reconcile ignores starts of the last minute, and differences of up to a minute.
    earlier = int(time.time()) - 50
    for number in slurm_jobs:
        admin.start(cluster="virt", jobId=number, startTime=earlier)
    admin.start(cluster="virt", jobId=999_999, startTime=START)
    time.sleep(12)
    status, output = reconcile(cluster, config, "--apply")
    assert "accounting storage is disabled" in output
    assert "0 missing, 1 stopped\n" in output
    assert status == 0
    assert {job["jobId"] for job in admin.list("state=running")} == slurm_jobs
    assert reconcile(cluster, config) == (0, "ccapi and Slurm agree on 5 running jobs\n")


def test_wrong_cluster_or_no_slurmctld_stops_nothing(
    cluster: Slurm, config: Config, admin: Client
) -> None:
    admin.start(cluster="virt", startTime=START)
    status, output = reconcile(cluster, config, "--apply", "--slurm-cluster", "other")
    assert (status, "cluster here is virt, not other" in output) == (2, True)
    cluster.run("scontrol", "shutdown", "slurmctld")
    status, output = reconcile(cluster, config, "--apply")
    assert (status, "Unable to contact slurm controller" in output) == (2, True)
    assert [job["jobState"] for job in admin.list()] == ["running"]
