"""`ccapi-slurm backfill` registers the jobs that sacct knows, once."""

import json
from pathlib import Path

import pytest

from tests.processes import Service
from tests.slurm.site import Site, list_jobs

pytestmark = pytest.mark.slow
# sacct's fields, in the order of backfill.py; "#" stands for the separator of the command line.
_ROWS = (
    """
4#3_1#AL#COMPLETED#D1T10:00:00#D1T10:01:00#SUB#n[1-2]#01:00:00#normal#8#cpu=8,gres/gpu=2#rotor
5#5#AL#CANCELLED by 999#D1T10:00:05#D1T10:00:05#SUB#n3#UNLIMITED#normal#4#cpu=4#two
lines
6#6##54321##main#TIMEOUT#D1T23:59:59#D2T00:59:59#SUB#n3#01:00:00#normal#4#cpu=4#x
7#7#AL#CANCELLED by 999#Unknown#D1T10:00:05#SUB#None assigned#01:00:00#normal#0##never
8#8#AL#REQUEUED#D1T11:00:00#D1T11:00:30#SUB#n1#01:00:00#normal#4#cpu=4#again
8#8#AL#COMPLETED#D1T11:03:00#D1T11:04:00#SUB#n2#01:00:00#normal#4#cpu=4#again
9#9#AL#RESIZING#D1T23:50:00#D2T00:10:00#SUB#n[1-2]#02:00:00#normal#4#cpu=4#small
9#9#AL#COMPLETED#D2T00:10:00#D2T00:20:00#D2T00:10:00#n1#02:00:00#normal#2#cpu=2#small
11#11#AL#FAILED#D2T10:00:00#D2T10:00:09#SUB#n[1-99999999]#02:00:00#normal#2#cpu=2#huge
10#10#AL#RUNNING#D2T10:00:00#Unknown#SUB#n4#02:00:00#normal#2#cpu=2#10|10|root|0
""".strip()
    .replace("#AL#", "#alice#999#hpc#main#")
    .replace("#SUB#", "#2026-01-01T09:59:00#")
    .replace("#D1", "#2026-01-01")
    .replace("#D2", "#2026-01-02")
)
_NOON = 1767261600  # 2026-01-01T10:00:00Z
EXPECTED = [
    (4, _NOON, 60, "completed"),
    (5, _NOON + 5, 1, "cancelled"),
    (8, _NOON + 3600, 30, "stopped"),
    (8, _NOON + 3780, 60, "completed"),
    (9, _NOON + 49_800, 1800, "completed"),
    (6, _NOON + 50_399, 3600, "timeout"),
]


@pytest.fixture
def sacct(service: Service, site: Site) -> Path:
    """Install a sacct that prints the rows of every day, and return its directory."""
    commands = site.directory / "commands"
    commands.mkdir()
    (commands / "rows").write_text(_ROWS + "\n", "utf-8")
    script = f"""#!/bin/sh
for word; do case $word in --delimiter=*) separator=${{word#*=}} ;; esac; done
sed "s/#/$separator/g" {commands}/rows
"""
    (commands / "sacct").write_text(script, "utf-8")
    (commands / "sacct").chmod(0o755)
    site.configure(CCAPI_URL=service.url, PATH=f"{commands}:/usr/bin:/bin")
    return commands


def test_finished_and_running_jobs_are_registered_once(
    service: Service, site: Site, sacct: Path
) -> None:
    arguments = ("backfill", "--since", "2025-12-31", "--until", "2026-01-03")
    first = site.run_sender(*arguments)
    assert first.stdout.splitlines() == [
        "2025-12-31: 0 new, 0 already there",
        "2026-01-01: 5 new, 0 already there",
        "2026-01-02: 2 new, 0 already there, 1 refused",
        "2026-01-03: 0 new, 0 already there",
        "in total: 7 new, 0 already there, 1 refused",
    ]
    assert (first.returncode, "refused: job 11: more than" in first.stderr) == (1, True)
    jobs = list_jobs(service, site)
    running = next(job for job in jobs if job["jobState"] == "running")
    finished = [job for job in jobs if job is not running]
    runs = [(job["jobId"], job["startTime"], job["duration"], job["jobState"]) for job in finished]
    assert sorted(runs) == sorted(EXPECTED)
    assert (running["jobId"], running["metaData"]["jobName"]) == (10, "10|10|root|0")
    second = site.run_sender(*arguments)
    assert second.stdout.splitlines()[-1] == "in total: 0 new, 7 already there, 1 refused"
    assert list_jobs(service, site)[:-1] == jobs[:-1]


def test_job_has_what_sacct_knows(service: Service, site: Site, sacct: Path) -> None:
    site.run_sender("backfill", "--since", "2026-01-01", "--until", "2026-01-02")
    jobs = {job["jobId"]: job for job in list_jobs(service, site)}
    job = jobs[4]
    assert job["resources"] == [{"hostname": "n1"}, {"hostname": "n2"}]
    names = ("user", "project", "partition", "arrayJobId", "walltime", "numHwthreads", "numAcc")
    assert [job[name] for name in names] == ["alice", "hpc", "main", 3, 3600, 8, 2]
    # The parts of a resized job are "submitted" when they begin, the first one excepted.
    assert job["submitTime"] == jobs[9]["submitTime"] == _NOON - 60
    assert job["metaData"] == {"jobName": "rotor", "qos": "normal"}
    assert (jobs[6]["user"], jobs[5]["metaData"]["jobName"]) == ("uid:54321", "two\nlines")


def test_unavailable_ccapi_is_one_line(service: Service, site: Site, sacct: Path) -> None:
    site.configure(CCAPI_URL=f"{service.url}/nothing", PATH=f"{sacct}:/usr/bin:/bin")
    done = site.run_sender("backfill", "--since", "2026-01-01")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ccapi-slurm: this address has no batches, upgrade ccapi: 404")
    assert json.loads(done.stderr.partition("404 ")[2])["status"] == "Not Found"
