"""The registry is away for a whole run of jobs, and the sender is killed: nothing is lost."""

import random
import time
from collections.abc import Iterator

import pytest
from ccapi_slurm import record

from ccapi.db.pool import Database
from tests.processes import Service, free_port
from tests.slurm import events
from tests.slurm.bench import EPILOG, JOBCOMP, Bench, bench
from tests.slurm.site import Site, jobs

Figures = list[tuple[str, str, str]]
_JOBS = 200
_BACKLOG = 10_000


@pytest.fixture(params={"epilog": EPILOG, "jobcomp": JOBCOMP}.items(), ids=lambda way: way[0])
def connected(
    request: pytest.FixtureRequest, user: None, running: Service, database: Database
) -> Iterator[Bench]:
    with bench(f"away-{request.param[0]}", running, database, request.param[1]) as made:
        yield made


def away(connected: Bench) -> None:
    """Let nothing listen where the hooks and the sender look for the registry."""
    connected.configure(CCAPI_URL=f"http://127.0.0.1:{free_port()}/api/jobs")


def submit(connected: Bench) -> None:
    for _ in range(_JOBS):
        connected.slurm.sbatch()


def assert_all_arrived(connected: Bench) -> None:
    """Compare with Slurm's own records, and the order with that of the starts."""
    found = connected.jobs()
    assert sorted({job["jobId"] for job in found}) == list(range(1, _JOBS + 1))
    assert len(found) == _JOBS
    starts = [job["startTime"] for job in found]
    assert starts == sorted(starts)
    for job in found:
        text = connected.slurm.run("scontrol", "show", "job", str(job["jobId"]))
        fields = dict(word.split("=", 1) for word in text.split() if "=" in word)
        start, end = record.epoch(fields["StartTime"]), record.epoch(fields["EndTime"])
        assert (job["startTime"], job["jobState"]) == (start, "completed")
        assert abs(job["duration"] - max(1, end - start)) <= 2


def test_jobs_of_an_outage_arrive_in_order(connected: Bench) -> None:
    away(connected)
    with connected.site.sender("slurm"):
        submit(connected)
        connected.slurm.wait(lambda: not connected.slurm.queue(), 120, "the queue does not empty")
        time.sleep(3)
    assert connected.jobs() == []
    connected.configure()
    with connected.site.sender("slurm"):
        connected.wait_for_jobs(_JOBS)
    assert_all_arrived(connected)


def test_a_sender_killed_20_times_loses_nothing(connected: Bench) -> None:
    chance = random.Random(3)
    away(connected)
    submit(connected)
    for kill in range(20):
        if kill == 10:
            connected.configure()
        with connected.site.sender("slurm"):
            time.sleep(chance.uniform(0.2, 0.8))
    with connected.site.sender("slurm"):
        connected.wait_for_jobs(_JOBS)
    assert_all_arrived(connected)


def test_10000_events_are_drained_in_order(service: Service, site: Site, figures: Figures) -> None:
    for number in range(1, _BACKLOG // 2 + 1):
        events.start(site, number, events.START + number)
        events.end(site, number, events.START + number + 9, START=str(events.START + number))
    began = time.monotonic()
    done = site.command("--once", timeout=600)
    seconds = time.monotonic() - began
    figures.append(("10,000 spooled events drained in", "", f"{seconds:.0f} s"))
    assert (done.returncode, site.names("dead")) == (0, [])
    told = [(job["jobId"], job["startTime"], job["duration"]) for job in jobs(service, site)]
    assert told == [(n, events.START + n, 9) for n in range(1, _BACKLOG // 2 + 1)]
