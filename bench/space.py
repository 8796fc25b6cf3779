"""Bytes per job, deletion under load, and many pollers of one list."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

from bench import driver, site
from bench.cpu import NUMBERS
from bench.service import delete, get
from bench.site import Context, Site
from bench.table import Row
from ccapi.model.job import NewJob
from ccapi.repository import bulk_insert

_JOBS = 20_000
_RUNNING = 1_000
_END_ALL = """
DO $$
DECLARE job bigint;
BEGIN
    FOR job IN SELECT id FROM jobs WHERE job_state = 'running' ORDER BY id LOOP
        UPDATE jobs
        SET job_state = 'completed', stop_time = start_time + 60 + 7919 * job % 80000,
            monitoring_status = 3
        WHERE id = job;
        COMMIT;
    END LOOP;
END $$
"""
_SCRIPT_BYTES = 1024
_SIZE = "SELECT pg_total_relation_size('jobs') + pg_total_relation_size('job_tags')"
_PROGRAMS = ("gromacs", "lammps", "openfoam", "cp2k", "namd", "quantum-espresso", "wrf", "siesta")
_POLLERS = 100
_POLL_SECONDS = 5
_CACHE_SECONDS = 1
_STARTS = 50
_QUIET_SECONDS = 60
_BURSTS = """
import time
while True:
    begun = time.monotonic()
    while time.monotonic() < begun + 0.003:
        pass
    time.sleep(0.0015)
"""
_SHARE_DELETED = 0.2
_TODAY = 1_768_978_339


def bytes_per_job(running: Site) -> Iterator[Row]:
    """Measure jobs of 4 nodes, 72 hardware threads each, with a script of 1 KB."""
    database = site.migrated(running.postgres, "sizes")
    with database.session() as conn:
        conn.execute("TRUNCATE jobs CASCADE")
        for first in range(0, _JOBS, _RUNNING):
            with conn.transaction():
                bulk_insert.load(conn, [_specified(first + number) for number in range(_RUNNING)])
            conn.execute(_END_ALL)
            conn.execute("VACUUM (ANALYZE) jobs")
    size = site.number(database, _SIZE)
    indexes = site.number(database, "SELECT pg_indexes_size('jobs')")
    yield Row(
        what="bytes per job (4 x 72 hwthreads, script of 1 KB)",
        measured=size / _JOBS,
        bar=1700,
        unit="bytes",
        details=f"{indexes / _JOBS:.0f} of them indexes; {_JOBS:,} jobs, each "
        "stopped in a transaction of its own",
    )


def _specified(number: int) -> NewJob:
    rng = Random(number)  # noqa: S311 - nothing is secret here
    start = site.START_TIME + 3 * number
    first = rng.randrange(8000)
    return NewJob(
        job_id=10_000_000 + number,
        user_name=f"abcd{rng.randrange(1000):03}h",
        project=f"abcd{rng.randrange(100):03}",
        cluster="fritz",
        sub_cluster="main",
        partition="multinode",
        start_time=start,
        walltime=86_400,
        num_hwthreads=288,
        smt=1,
        resources=[
            {"hostname": f"f{first + node:04}", "hwthreads": list(range(72))} for node in range(4)
        ],
        meta_data={"jobName": f"run_{number}", "jobScript": _script(rng)},
    )


def _script(rng: Random) -> str:
    """Write a script as users do: each setting of their own, none random to the last byte."""
    program = rng.choice(_PROGRAMS)
    lines = ["#!/bin/bash -l", "#SBATCH --nodes=4 --time=24:00:00", f"module load {program}"]
    while len("\n".join(lines)) < _SCRIPT_BYTES:
        case = f"case_{rng.randrange(10_000):04}"
        lines.append(f"export {program[:4].upper()}_{rng.randrange(100)}={rng.random():.6f}")
        lines.append(f"srun --cpu-bind=cores {program} -i $WORK/{case}/input.dat -o {case}.log")
    return "\n".join(lines)[:_SCRIPT_BYTES]


def pollers(running: Site) -> Iterator[Row]:
    """Let 100 dashboards ask for the same list every 5 seconds, and count what PostgreSQL sees."""
    context = running.small
    scans = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'jobs_running'"
    before, begun = _settled(context, scans), time.monotonic()
    result = driver.run(
        driver.Order(
            socket=context.socket,
            request=get("/api/jobs/?state=running", context.reader),
            clients=_POLLERS,
            rate=_POLLERS / _POLL_SECONDS,
            seconds=30,
        )
    )
    result.require(200)
    seconds = time.monotonic() - begun
    asked = _settled(context, scans) - before
    workers = len(context.service.workers())
    yield Row(
        what="100 pollers every 5 s: queries per cache period and worker",
        measured=asked / (seconds / _CACHE_SECONDS) / workers,
        bar=1.5,
        unit="",
        details=f"{result.answered} answers, {asked} queries in {seconds:.0f} s; "
        f"{workers} workers; p99 {1000 * result.p99:.1f} ms",
    )


def _settled(context: Context, query: str) -> int:
    """Read a counter of the statistics, which a busy backend brings up to date late."""
    time.sleep(2)
    return context.number(query)


def deletion(running: Site) -> Iterator[Row]:
    """Delete a fifth of the large database while starts go on.

    Beside it what a process does to starts that only computes, as long at a time as a batch takes.
    """
    context = running.large
    span = "SELECT min(start_time) + (max(start_time) - min(start_time)) * %s / 10 FROM jobs"
    where = " WHERE cluster IN ('fritz', 'alex', 'woody')"
    until = context.number(span % round(10 * _SHARE_DELETED) + where)
    jobs = context.number(f"SELECT count(*) FROM jobs WHERE start_time < {until}")  # noqa: S608 - a number
    # What loading left to write would slow down the starts before, and hide what the deletion does.
    context.execute("CHECKPOINT")
    quiet = driver.run(_starts(context, _QUIET_SECONDS))
    quiet.require(201)
    yield _beside_computing(context, quiet)
    busy: list[driver.Result] = []
    requests, seconds = _delete_before(context, until, busy)
    waits = [wait for result in busy for wait in result.waits]
    statuses = sorted({status for result in busy for status in result.statuses})
    late = driver.percentile(waits, 99)
    yield Row(
        what="50 starts/s while a fifth of the jobs is deleted: p99 / before",
        measured=late / quiet.p99,
        bar=2.0,
        details=f"{jobs:,} jobs in {seconds:.0f} s and {requests} requests; "
        f"p99 {1e3 * quiet.p99:.1f} -> {1e3 * late:.1f} ms of {len(waits)} starts, "
        f"statuses {statuses}",
    )


def _delete_before(context: Context, until: int, starts: list[driver.Result]) -> tuple[int, float]:
    """Delete until nothing is left, and start jobs meanwhile; return in how many requests."""
    request = delete(f"/api/jobs/delete_job_before/{until}", context.admin)
    requests, seconds = 0, 0.0
    while True:
        deleting = driver.start(driver.Order(socket=context.socket, request=request, count=1))
        while deleting.poll() is None:
            starts.append(driver.run(_starts(context, 5)))
        done = driver.finish(deleting)
        done.require(200, 503)
        requests, seconds = requests + 1, seconds + done.waits[0]
        if "200" in done.statuses:
            return requests, seconds


def _beside_computing(context: Context, quiet: driver.Result) -> Row:
    with _computing():
        crowded = driver.run(_starts(context, _QUIET_SECONDS))
    crowded.require(201)
    return Row(
        what="50 starts/s beside a process that only computes: p99 / before",
        measured=crowded.p99 / quiet.p99,
        bar=None,
        details=f"3 ms of each 4.5 ms; p99 {1e3 * quiet.p99:.1f} -> {1e3 * crowded.p99:.1f} ms",
    )


@contextmanager
def _computing() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", _BURSTS])  # noqa: S603 - the program is ours
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _starts(context: Context, seconds: int) -> driver.Order:
    return driver.Order(
        socket=context.socket,
        request=site.start_job(context.admin, startTime=_TODAY),
        first=NUMBERS.take(_STARTS * seconds),
        clients=2000,
        rate=_STARTS,
        seconds=seconds,
    )
