"""Latency of starts while many jobs are deleted."""

import subprocess
import sys
from collections.abc import Iterator

from bench import load_generator
from bench.http_requests import JOB_NUMBERS, delete, start_job
from bench.load_generator import LoadResult, LoadSpec, percentile
from bench.report import Row
from bench.testbed import Instance, Testbed

_STARTS_PER_SECOND = 50
_UNDISTURBED_SECONDS = 60
_TODAY = 1_768_978_339
# Computes for 3 of each 4.5 ms; a batch of a deletion takes 3 ms, too.
_COMPUTE_IN_BURSTS = """
import time
while True:
    start = time.monotonic()
    while time.monotonic() < start + 0.003:
        pass
    time.sleep(0.0015)
"""


def starts_during_deletion(testbed: Testbed) -> Iterator[Row]:
    """Start jobs alone, beside a busy process, and while a fifth of the large database is deleted.

    The busy process shows what any use of a processor costs the starts.
    """
    instance = testbed.large
    before = instance.query_number(
        "SELECT min(start_time) + (max(start_time) - min(start_time)) / 5 FROM jobs "
        "WHERE cluster IN ('fritz', 'alex', 'woody')"
    )
    jobs = instance.query_number("SELECT count(*) FROM jobs WHERE start_time < %s", before)
    # Otherwise PostgreSQL still writes the loaded jobs during the undisturbed starts.
    instance.execute("CHECKPOINT")
    undisturbed = _start_jobs(instance, _UNDISTURBED_SECONDS)
    undisturbed.require_status(201)
    yield _starts_beside_busy_process(instance, undisturbed)
    starts: list[LoadResult] = []
    requests, seconds = _delete_before(instance, before, starts)
    latencies = [latency for result in starts for latency in result.latencies]
    statuses = sorted({status for result in starts for status in result.statuses})
    p99 = percentile(latencies, 99)
    yield Row(
        what="50 starts/s while a fifth of all jobs is deleted: p99 / undisturbed",
        measured=p99 / undisturbed.p99,
        bar=2.0,
        details=f"{jobs:,} jobs in {seconds:.0f} s and {requests} requests; "
        f"p99 {1e3 * undisturbed.p99:.1f} -> {1e3 * p99:.1f} ms of {len(latencies)} starts, "
        f"statuses {statuses}",
    )


def _starts_beside_busy_process(instance: Instance, undisturbed: LoadResult) -> Row:
    with subprocess.Popen([sys.executable, "-c", _COMPUTE_IN_BURSTS]) as process:  # noqa: S603 - a fixed program
        try:
            disturbed = _start_jobs(instance, _UNDISTURBED_SECONDS)
        finally:
            process.kill()
    disturbed.require_status(201)
    return Row(
        what="50 starts/s beside a busy process: p99 / undisturbed",
        measured=disturbed.p99 / undisturbed.p99,
        bar=None,
        details="busy for 3 of each 4.5 ms; "
        f"p99 {1e3 * undisturbed.p99:.1f} -> {1e3 * disturbed.p99:.1f} ms",
    )


def _delete_before(instance: Instance, before: int, starts: list[LoadResult]) -> tuple[int, float]:
    """Delete all jobs before a time, and start jobs meanwhile; add the results to `starts`.

    A deletion that runs out of time is repeated. Returns the number of requests, and their seconds.
    """
    request = delete(f"/api/jobs/delete_job_before/{before}", instance.admin_token)
    requests, seconds = 0, 0.0
    while True:
        process = load_generator.start(LoadSpec(socket=instance.socket, request=request, count=1))
        while process.poll() is None:
            starts.append(_start_jobs(instance, 5))
        result = load_generator.finish(process)
        result.require_status(200, 503)
        requests, seconds = requests + 1, seconds + result.latencies[0]
        if "200" in result.statuses:
            return requests, seconds


def _start_jobs(instance: Instance, seconds: int) -> LoadResult:
    return load_generator.run(
        LoadSpec(
            socket=instance.socket,
            request=start_job(instance.admin_token, startTime=_TODAY),
            first_number=JOB_NUMBERS.reserve(_STARTS_PER_SECOND * seconds),
            clients=2000,
            rate=_STARTS_PER_SECOND,
            seconds=seconds,
        )
    )
