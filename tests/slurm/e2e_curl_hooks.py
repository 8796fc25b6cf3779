"""The curl hooks in slurmd's Prolog and Epilog of a real Slurm: no node is drained."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ccapi_slurm import hostlist

from ccapi.db.pool import Database
from ccapi.model.token import Role
from ccapi.service import tokens
from tests.conftest import empty
from tests.processes import Service, free_port
from tests.slurm import cluster
from tests.slurm.cluster import Slurm
from tests.slurm.curl_site import CurlSite, black_hole, install, write_example
from tests.slurm.site import Site, list_jobs

NAME = "curl"


@dataclass(frozen=True)
class CurlSlurm:
    """A cluster whose nodes run the curl hooks, and the ccapi that they report to."""

    slurm: Slurm
    site: CurlSite
    service: Service
    reader: Site

    def jobs(self) -> list[dict[str, Any]]:
        """Return the cluster's jobs in ccapi."""
        return [
            job for job in list_jobs(self.service, self.reader) if job["cluster"] == self.slurm.name
        ]

    def run(self, *arguments: str, script: str = "true") -> int:
        """Run a job until it has left the queue and no node is busy with it."""
        job_id = self.slurm.sbatch(*arguments, script=script)
        self.wait_until_idle()
        return job_id

    def wait_until_idle(self) -> None:
        """Wait for an empty queue and idle nodes; a drained node never becomes idle."""
        self.slurm.wait(lambda: not self.slurm.queue(), 60, "the queue does not empty")
        self.slurm.wait(lambda: self.slurm.node_states() == {"idle"}, 20, "a node is not idle")


@pytest.fixture(scope="module")
def curl_slurm(user: None, running: Service, _migrated: Database) -> Iterator[CurlSlurm]:
    empty(_migrated)
    with connected(NAME, running, _migrated) as curl_slurm:
        curl_slurm.site.configure(CCAPI_URL=running.url)
        yield curl_slurm


@contextlib.contextmanager
def connected(
    name: str, service: Service, database: Database, *, example: bool = False
) -> Iterator[CurlSlurm]:
    """Run a cluster with the curl hooks, or with the guide's example."""
    directory = Path(tempfile.mkdtemp(prefix="ccapi-curl-"))
    directory.chmod(0o755)
    (directory / "slurm").mkdir()
    token = tokens.create(database, name, Role.WRITER)
    site = install(directory, token)
    reader = Site(directory)
    reader.token_file.write_text(token, "ascii")
    prolog, epilog = site.hooks / "prolog", site.hooks / "epilog"
    if example:
        prolog = epilog = write_example(site, service.url)
    try:
        extra = f"Prolog={prolog}\nEpilog={epilog}"
        with cluster.slurm(directory / "slurm", name, extra) as slurm:
            yield CurlSlurm(slurm, site, service, reader)
    finally:
        shutil.rmtree(directory)


def find(curl_slurm: CurlSlurm, job_id: int) -> dict[str, Any]:
    """Return the only run of a job in ccapi."""
    [job] = [job for job in curl_slurm.jobs() if job["jobId"] == job_id]
    return job


def test_three_node_job_has_one_start_and_one_stop(curl_slurm: CurlSlurm) -> None:
    job_id = curl_slurm.slurm.sbatch("-N3", '--comment=say "x"\nUserId=root(0)', script="sleep 2")
    curl_slurm.slurm.wait(lambda: bool(curl_slurm.jobs()), 30, "no start arrives")
    assert find(curl_slurm, job_id)["jobState"] == "running"
    curl_slurm.wait_until_idle()
    job = find(curl_slurm, job_id)
    assert [entry["hostname"] for entry in job["resources"]] == ["n1", "n2", "n3"]
    assert (job["user"], job["partition"]) == (cluster.USER, "main")
    assert job["metaData"]["comment"] == 'say "x"\nUserId=root(0)'
    assert (job["jobState"], job["duration"] >= 2) == ("completed", True)
    assert curl_slurm.site.names() == curl_slurm.site.names("dead") == []
    record = curl_slurm.slurm.run("scontrol", "show", "job", str(job_id))
    fields = dict(word.split("=", 1) for word in record.split() if "=" in word)
    assert fields["NodeList"] == "n[1-3]"


def test_ends_by_exit_code(curl_slurm: CurlSlurm) -> None:
    job_id = curl_slurm.run(script="exit 3")
    assert find(curl_slurm, job_id)["jobState"] == "failed"
    job_id = curl_slurm.run("-w", "n2", "--gres=gpu:1")
    job = find(curl_slurm, job_id)
    assert job["resources"] == [{"hostname": "n2", "accelerators": ["0"]}]
    assert (job["jobState"], job["numAcc"]) == ("completed", 1)


def test_array_and_cancelled_jobs(curl_slurm: CurlSlurm) -> None:
    curl_slurm.run("--array=1-6", "-N2")
    assert all(job["jobState"] != "running" for job in curl_slurm.jobs())
    job_id = curl_slurm.slurm.sbatch("-N4", script="sleep 300")
    curl_slurm.slurm.wait(lambda: curl_slurm.slurm.queue()[job_id] == "RUNNING", 30, "no start")
    curl_slurm.slurm.run("scancel", str(job_id))
    curl_slurm.wait_until_idle()
    assert find(curl_slurm, job_id)["jobState"] == "completed"
    assert curl_slurm.site.names() == curl_slurm.site.names("dead") == []


def shrink_and_end(curl_slurm: CurlSlurm) -> None:
    """Run a job that gives up two of its four nodes, then is cancelled."""
    slurm = curl_slurm.slurm
    job_id = slurm.sbatch("-N4", script="sleep 300")
    slurm.wait(lambda: slurm.queue()[job_id] == "RUNNING", 30, "no start")
    slurm.wait(lambda: shrink(slurm, job_id), 30, "the job does not shrink")
    slurm.wait(lambda: "idle" in slurm.node_states(), 20, "no node is given up")
    assert find(curl_slurm, job_id)["jobState"] == "running"
    slurm.run("scancel", str(job_id))
    curl_slurm.wait_until_idle()
    assert find(curl_slurm, job_id)["jobState"] == "completed"
    assert curl_slurm.site.names() == curl_slurm.site.names("dead") == []


def shrink(slurm: Slurm, job_id: int) -> bool:
    """Give up two nodes, and return whether Slurm can do it already."""
    try:
        slurm.run("scontrol", "update", f"JobId={job_id}", "NumNodes=2")
    except AssertionError:
        return False
    return True


def test_job_that_shrinks_goes_on_running(curl_slurm: CurlSlurm) -> None:
    shrink_and_end(curl_slurm)


@pytest.mark.parametrize("fault", ["refused", "black-holed"])
def test_jobs_of_an_outage_arrive_with_flush(curl_slurm: CurlSlurm, fault: str) -> None:
    with black_hole() as hole:
        port = hole if fault == "black-holed" else free_port()
        curl_slurm.site.configure(CCAPI_URL=f"http://127.0.0.1:{port}/api/jobs")
        job_ids = {curl_slurm.run("-N3") for _ in range(3)}
    assert not job_ids & {job["jobId"] for job in curl_slurm.jobs()}
    assert len(curl_slurm.site.names()) == 6
    curl_slurm.site.configure(CCAPI_URL=curl_slurm.service.url)
    curl_slurm.site.flush()
    assert {find(curl_slurm, job_id)["jobState"] for job_id in job_ids} == {"completed"}
    assert curl_slurm.site.names() == curl_slurm.site.names("dead") == []


def test_requeued_job_has_two_runs(curl_slurm: CurlSlurm) -> None:
    job_id = curl_slurm.slurm.sbatch("-N2", "--requeue", script="sleep 300")
    curl_slurm.slurm.wait(lambda: curl_slurm.slurm.queue()[job_id] == "RUNNING", 30, "no start")
    curl_slurm.slurm.run("scontrol", "requeue", str(job_id))
    curl_slurm.slurm.wait(lambda: curl_slurm.slurm.queue()[job_id] == "PENDING", 30, "no requeue")
    curl_slurm.slurm.wait(
        lambda: curl_slurm.slurm.node_states() == {"idle"}, 20, "a node is not idle"
    )
    assert find(curl_slurm, job_id)["jobState"] == "completed"
    curl_slurm.slurm.run("scancel", str(job_id))


@pytest.mark.parametrize("hosts", ["n[1-3]", "f[01-03,7]r[1-2],g1", "a[08-11]x[007,010]"])
def test_slurm_expands_node_lists_as_we_do(curl_slurm: CurlSlurm, hosts: str) -> None:
    names = curl_slurm.slurm.run("scontrol", "show", "hostnames", hosts).split()
    assert names == hostlist.expand(hosts)


def test_example_of_the_guide(user: None, running: Service, database: Database) -> None:
    with connected("example", running, database, example=True) as curl_slurm:
        job_id = curl_slurm.run("-N3")
        job = find(curl_slurm, job_id)
        assert [entry["hostname"] for entry in job["resources"]] == ["n1", "n2", "n3"]
        assert job["jobState"] == "completed"
        shrink_and_end(curl_slurm)
