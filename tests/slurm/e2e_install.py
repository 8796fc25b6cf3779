"""From a Slurm without hooks to its first job in ccapi, with `ccapi-slurm install`."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import Service
from tests.slurm.cluster import Slurm, slurm, wait_until
from tests.slurm.conftest import Measurements
from tests.slurm.site import HOOKS, Site, list_jobs

AS_SLURM = ("setpriv", "--reuid=slurm", "--regid=slurm", "--clear-groups")


@pytest.fixture
def cluster(user: None) -> Iterator[Slurm]:
    """Run a Slurm whose JobCompType is in use."""
    directory = Path(tempfile.mkdtemp(prefix="ccapi-slurm-"))
    (directory / "ended").touch()
    shutil.chown(directory / "ended", "slurm")
    extra = f"JobCompType=jobcomp/filetxt\nJobCompLoc={directory}/ended"
    with slurm(directory, "virt", extra) as running:
        yield running
    shutil.rmtree(directory, ignore_errors=True)


def ccapi_slurm(cluster: Slurm, program: Path, *arguments: str) -> str:
    """Run the command as root, and return what it prints; its exit status must be 0."""
    process = subprocess.run(
        [str(program / "ccapi-slurm"), *arguments],
        env={"PATH": os.environ["PATH"], "SLURM_CONF": str(cluster.conf)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@contextlib.contextmanager
def daemon(command: list[str]) -> Iterator[None]:
    """Run a program until the block ends."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait(10)


@contextlib.contextmanager
def restarted(cluster: Slurm, text: str) -> Iterator[None]:
    """Run slurmctld with another slurm.conf."""
    with contextlib.suppress(AssertionError):
        cluster.run("scontrol", "shutdown", "slurmctld")
    cluster.conf.write_text(text, "utf-8")
    time.sleep(1)
    with daemon([*AS_SLURM, "slurmctld", "-D", "-f", str(cluster.conf)]):
        wait_until(lambda: is_idle(cluster), 60, cluster.log)
        yield


def is_idle(cluster: Slurm) -> bool:
    with contextlib.suppress(AssertionError):
        return cluster.node_states() == {"idle"}
    return False


@pytest.mark.skipif(Path("/run/systemd/system").exists(), reason="it would start a service")
def test_installed_hooks_report_jobs(
    cluster: Slurm, service: Service, site: Site, measurements: Measurements
) -> None:
    began = time.monotonic()
    installed = cluster.directory / "ccapi"
    installed.mkdir()
    (installed / "ccapi.conf").write_text(
        f"CCAPI_CLUSTER=virt\nCCAPI_SPOOL={cluster.directory}/spool\n"
        f"SLURM_CONF={cluster.conf}\nCCAPI_SLURM_STATE={cluster.directory}/state\n"
    )
    here = ("--directory", str(installed))
    access = ("--url", service.url, "--token-file", str(site.token_file))
    printed = ccapi_slurm(cluster, HOOKS, "install", *here, *access)
    start = printed.partition("start the sender with: ")[2].splitlines()[0].split()
    lines = [line.strip() for line in printed.splitlines() if line.startswith("    ")]
    assert [line.partition("=")[0] for line in lines] == ["PrologSlurmctld", "EpilogSlurmctld"]
    before = cluster.conf.read_text("utf-8")
    with restarted(cluster, "\n".join([before, *lines, ""])), daemon(start):
        wait_until((cluster.directory / "spool" / "new").exists, 30, lambda: "no spool")
        job_id = cluster.sbatch()
        wait_until(
            lambda: [job["jobState"] for job in list_jobs(service, site)] == ["completed"],
            60,
            cluster.log,
        )
        seconds = time.monotonic() - began
        measurements.append(("install, to the first job in ccapi", "120 s", f"{seconds:.0f} s"))
        [job] = list_jobs(service, site)
        assert (job["jobId"], job["cluster"]) == (job_id, "virt")
        # Again, as an upgrade, by the installed program itself.
        checked = ccapi_slurm(cluster, installed, "install", "--check", *here).splitlines()
        assert checked[-2:] == [
            "slurm.conf has its lines",
            "test event: the hook wrote it, the sender sent it, ccapi answered",
        ]
    with restarted(cluster, before):
        ccapi_slurm(cluster, installed, "uninstall", *here)
    assert not installed.exists()
