"""Outages of ccapi and killed senders lose no events."""

import random
import time
from collections.abc import Iterator

import pytest
from ccapi_slurm import job_record

from ccapi.db.pool import Database
from tests.processes import Service, free_port
from tests.slurm.connected_slurm import EPILOG, JOBCOMP, ConnectedSlurm, connected_slurm

_JOBS = 200


@pytest.fixture(params={"epilog": EPILOG, "jobcomp": JOBCOMP}.items(), ids=lambda way: way[0])
def connected(
    request: pytest.FixtureRequest, user: None, running: Service, database: Database
) -> Iterator[ConnectedSlurm]:
    name, hook_lines = request.param
    with connected_slurm(f"outage-{name}", running, database, hook_lines) as connected:
        yield connected


def stop_ccapi(connected: ConnectedSlurm) -> None:
    """Configure an address where nothing listens."""
    connected.configure(CCAPI_URL=f"http://127.0.0.1:{free_port()}/api/jobs")


def submit(connected: ConnectedSlurm) -> None:
    for _ in range(_JOBS):
        connected.slurm.sbatch()


def assert_all_arrived(connected: ConnectedSlurm) -> None:
    """Compare ccapi's jobs with Slurm's records; two batches may overtake each other."""
    jobs = connected.jobs()
    assert sorted({job["jobId"] for job in jobs}) == list(range(1, _JOBS + 1))
    assert len(jobs) == _JOBS
    for job in jobs:
        text = connected.slurm.run("scontrol", "show", "job", str(job["jobId"]))
        fields = dict(word.split("=", 1) for word in text.split() if "=" in word)
        start, end = (
            job_record.parse_time(fields["StartTime"]),
            job_record.parse_time(fields["EndTime"]),
        )
        assert (job["startTime"], job["jobState"]) == (start, "completed")
        assert abs(job["duration"] - max(1, end - start)) <= 2


def test_jobs_of_an_outage_arrive(connected: ConnectedSlurm) -> None:
    stop_ccapi(connected)
    with connected.site.sender("slurm"):
        submit(connected)
        connected.slurm.wait(lambda: not connected.slurm.queue(), 120, "the queue does not empty")
        time.sleep(3)
    assert connected.jobs() == []
    connected.configure()
    with connected.site.sender("slurm"):
        connected.wait_for_jobs(_JOBS)
    assert_all_arrived(connected)


def test_sender_killed_20_times_loses_no_events(connected: ConnectedSlurm) -> None:
    chance = random.Random(3)
    stop_ccapi(connected)
    submit(connected)
    for kill in range(20):
        if kill == 10:
            connected.configure()
        with connected.site.sender("slurm"):
            time.sleep(chance.uniform(0.2, 0.8))
    with connected.site.sender("slurm"):
        connected.wait_for_jobs(_JOBS, seconds=300)
    assert_all_arrived(connected)
