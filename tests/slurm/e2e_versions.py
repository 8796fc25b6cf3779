"""Jobs on the Slurm of newer Debian releases, in root file systems that mmdebstrap unpacks."""

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ccapi_slurm import job_record
from ccapi_slurm.end_states import SLURM_STATES

from tests.processes import Service
from tests.slurm.sacct_runs import BURST, COMMAND, FIELDS, differences, row_of_ccapi, rows_of_sacct
from tests.slurm.site import HOOKS, Site, list_jobs

SUITES = {"24.11": "trixie", "26.05": "sid"}
PACKAGES = "slurmctld,slurmd,slurmdbd,slurm-client,munge,mariadb-server,procps,iproute2"
# An old index is good enough.
APT_OPTION = '--aptopt=Acquire::Check-Valid-Until "false"'
SETTINGS = "CCAPI_URL=http://127.0.0.1:1\nCCAPI_CLUSTER=fritz\nCCAPI_SPOOL=/w/spool\n"


@dataclass(frozen=True)
class Run:
    """What a Slurm did with a set of jobs; `queue` has squeue's columns by job id."""

    version: str
    directory: Path
    ids: dict[str, int]
    queue: dict[int, list[str]]


@pytest.fixture(scope="module", params=SUITES)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Run the jobs; SLURM_ROOTS names a directory that keeps the root file systems."""
    if os.geteuid() != 0 or shutil.which("mmdebstrap") is None:
        pytest.skip("NO NEWER SLURM: it needs root, and Debian's package mmdebstrap")
    parent = os.environ.get("SLURM_ROOTS")
    root = (Path(parent) if parent else tmp_path_factory.mktemp("roots")) / SUITES[request.param]
    if not root.exists():
        command = [
            "mmdebstrap",
            "--variant=minbase",
            f"--include={PACKAGES},util-linux,bsdutils",
            APT_OPTION,
        ]
        process = subprocess.run([*command, SUITES[request.param], root], check=False)
        if process.returncode:
            pytest.skip(f"NO NEWER SLURM: mmdebstrap cannot unpack {SUITES[request.param]}")
    directory = root / "w"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    shutil.copytree(HOOKS, directory / "ccapi", ignore=shutil.ignore_patterns("__pycache__"))
    (directory / "ccapi" / "ccapi.conf").write_text(f"{SETTINGS}SLURM_CONF=/w/slurm.conf\n")
    shutil.copy(Path(__file__).with_name("run_in_root.sh"), directory)
    (directory / "burst").write_text(str(BURST), "ascii")
    (directory / "sacct").write_text(f"{shlex.join([*COMMAND, '-o', FIELDS])}\n", "ascii")
    inside = f"mount --bind /dev {root}/dev && exec chroot {root} /w/run_in_root.sh"
    namespaces = ["unshare", "--mount", "--net", "--uts", "--pid", "--fork"]
    subprocess.run([*namespaces, "sh", "-c", inside], check=False, timeout=500)
    pairs = [line.split() for line in (directory / "ids").read_text("ascii").splitlines()]
    lines = [line.split() for line in (directory / "queue").read_text("ascii").splitlines()]
    yield Run(
        request.param,
        directory,
        {name: int(number) for number, name in pairs},
        {int(words[0]): words[1:] for words in lines},
    )
    if not parent:
        shutil.rmtree(root)


@pytest.fixture
def jobs(run: Run, service: Service, site: Site) -> dict[int, dict[str, Any]]:
    """Send the events of a run, and return the jobs in ccapi by their id."""
    shutil.rmtree(site.spool)
    shutil.copytree(run.directory / "spool", site.spool)
    sender = site.run_sender("--once")
    assert (sender.returncode, site.names("dead")) == (0, []), sender.stderr
    return {job["jobId"]: job for job in list_jobs(service, site)}


def test_jobs_of_a_newer_slurm(run: Run, jobs: dict[int, dict[str, Any]]) -> None:
    """Each job has the values that squeue has, and the shape that sbatch asked for."""
    assert jobs.keys() == run.queue.keys()
    for job_id, (state, start, end, *hosts) in run.queue.items():
        job = jobs[job_id]
        assert (job["jobState"], job["user"]) == (SLURM_STATES[state], "alice")
        start_time, end_time = job_record.parse_time(start), job_record.parse_time(end)
        if job_id != run.ids["shrink"]:
            assert (job["startTime"], job["duration"]) == (
                start_time,
                max(1, end_time - start_time),
            )
            assert len(hosts) == 1
    by_name = {name: jobs[job_id] for name, job_id in run.ids.items()}
    states = {name: by_name[name]["jobState"] for name in ("failed", "signal", "timeout", "shrink")}
    assert states == {
        "failed": "failed",
        "signal": "failed",
        "timeout": "timeout",
        "shrink": "completed",
    }
    assert by_name["cancelled"]["jobState"] == "cancelled"
    exclusive = {
        name: by_name[name]["exclusive"]
        for name in ("plain", "exclusive", "user", "whole", "shared")
    }
    assert exclusive == {"plain": 0, "exclusive": 1, "user": 2, "whole": 1, "shared": 0}
    assert (by_name["plain"]["walltime"], by_name["plain"]["numHwthreads"]) == (300, 2)
    assert (by_name["gpus"]["numAcc"], by_name["gpus"]["numHwthreads"]) == (2, 4)
    assert (by_name["whole"]["numAcc"], by_name["whole"]["numHwthreads"]) == (2, 8)
    assert by_name["one-thread"]["numHwthreads"] == 4
    [entry] = json.loads(by_name["shrink"]["metaData"]["nodeHistory"])
    assert (by_name["shrink"]["numNodes"], len(entry["hosts"])) == (1, 2)
    tasks = [job for job in jobs.values() if job.get("arrayJobId") == run.ids["array"]]
    assert len(tasks) == 4
    assert by_name["het"]["metaData"]["hetJobOffset"] == "0"
    has_sluid = {"sluid" in job["metaData"] for job in jobs.values()}
    assert has_sluid == {run.version not in {"24.11"}}


def test_every_run_equals_that_of_sacct(run: Run, jobs: dict[int, dict[str, Any]]) -> None:
    # Of a hostile job, the fields that its text contradicts are left out.
    hostile = {job_id for name, job_id in run.ids.items() if "hostile" in name}
    rows = rows_of_sacct((run.directory / "accounting").read_text("utf-8"))
    expected = [row for row in rows if row.job_id not in hostile]
    assert len(expected) >= BURST
    honest = [job for job_id, job in jobs.items() if job_id not in hostile]
    assert differences(expected, map(row_of_ccapi, honest)) == []


def test_hostile_jobs_of_a_newer_slurm(run: Run, jobs: dict[int, dict[str, Any]]) -> None:
    hostile = {name: jobs[job_id] for name, job_id in run.ids.items() if "hostile" in name}
    assert len(hostile) >= 12
    for name, job in hostile.items():
        hosts = [node["hostname"] for node in job["resources"]]
        assert (name, hosts) == (name, run.queue[job["jobId"]][3:])
        assert job.get("numHwthreads") in {2, None}, name
        assert job.get("walltime") in {300, None}, name
        assert "numAcc" not in job
