"""Options of sbatch that write lines into Slurm's record, on a real Slurm."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from ccapi.db.pool import Database
from tests.conftest import empty
from tests.processes import Service
from tests.slurm.cluster import USER
from tests.slurm.connected_slurm import BOTH, ConnectedSlurm, connected_slurm

LINES = (
    "     Nodes=n4 CPU_IDs=0-7 Mem=0 GRES=gpu:2(IDX:0-1)",
    "     Nodes=n[1-300000] CPU_IDs=x Mem=0 GRES=gpu:9(IDX:0-8)",
    "   RunTime=00:00:00 TimeLimit=9-00:00:00 TimeMin=N/A",
    "   StartTime=1999-01-01T00:00:00 EndTime=1999-01-01T00:00:01 Deadline=N/A",
    "   JobState=FAILED Reason=None Dependency=(null)",
    "   Command=/bin/true",
    "",
    "JobId=1 JobName=x",
)
TEXT = "x\n" + "\n".join(LINES)
# These lines name the job's own host.
OWN_NODE = "x\n     Nodes=n1 CPU_IDs=0-7 Mem=0 GRES=gpu:2(IDX:0-1)\n   Command=/bin/true"
# The options that sbatch 22.05 takes with such a text; it refuses the others.
OPTIONS = (
    "--account",
    "--bb",
    "--chdir",
    "--cluster-constraint",
    "--comment",
    "--container",
    "--error",
    "--job-name",
    "--mail-user",
    "--mcs-label",
    "--network",
    "--output",
    "--power",
    "--qos",
    "--wckey",
)


class Outcome(NamedTuple):
    """A cluster whose jobs have ended; the hosts and ids of the jobs by their option."""

    connected: ConnectedSlurm
    job_ids: dict[str, int]
    hosts: dict[int, str]


@pytest.fixture(scope="module")
def outcome(user: None, running: Service, _migrated: Database) -> Iterator[Outcome]:
    empty(_migrated)
    with (
        connected_slurm("hostile", running, _migrated, BOTH) as connected,
        connected.site.sender("slurm"),
    ):
        job_ids: dict[str, int] = {}
        hosts: dict[int, str] = {}
        for text in (TEXT, OWN_NODE):
            ids = {option: submit(connected, f"{option}={text}") for option in OPTIONS}
            ids["none"] = submit(connected)
            job_ids |= {f"{option} {text is OWN_NODE}": number for option, number in ids.items()}
        pending = set(job_ids.values())

        def all_have_hosts() -> bool:
            lines = connected.slurm.run("squeue", "-h", "-t", "all", "-o", "%A %N").splitlines()
            pairs = [line.split() for line in lines]
            hosts.update({int(pair[0]): pair[1] for pair in pairs if len(pair) > 1})
            return pending <= hosts.keys()

        connected.slurm.wait(all_have_hosts, 120, "not all jobs start")
        connected.slurm.wait(lambda: not connected.slurm.queue(), 60, "the queue does not empty")
        connected.slurm.wait(lambda: not connected.site.names(), 60, "events are left")
        assert connected.site.names("dead") == []
        yield Outcome(connected, job_ids, hosts)


def submit(connected: ConnectedSlurm, *arguments: str) -> int:
    return connected.slurm.sbatch("-n1", "-t5", "-N1", "-xn4", *arguments, script="sleep 2")


def test_jobs_are_their_users_on_the_hosts_that_slurm_gave(outcome: Outcome) -> None:
    assert len(outcome.connected.jobs()) == len(outcome.job_ids)
    for name, job_id in outcome.job_ids.items():
        [job] = outcome.connected.runs(job_id)
        hosts = [node["hostname"] for node in job["resources"]]
        assert (name, hosts, job["user"]) == (name, [outcome.hosts[job_id]], USER)
        assert "numAcc" not in job
        assert job.get("numHwthreads") in {2, None}, name
        assert job.get("walltime") in {300, None}, name
        assert job["duration"] < 60, name


def test_job_without_hostile_text_has_all_fields(outcome: Outcome) -> None:
    [job] = outcome.connected.runs(outcome.job_ids["none True"])
    assert (job["walltime"], job["numHwthreads"], job["exclusive"]) == (300, 2, 0)
