"""The report on hosts is the same with roll-ups as a scan of the jobs."""

from dataclasses import replace
from random import Random

import pytest

from ccapi.context import Context
from ccapi.errors import InvalidInput
from ccapi.model.hosts import HostJobs, LastJob
from ccapi.model.job import FAILURES, JobFilter, NewJob, Range
from ccapi.model.token import Scope
from ccapi.repository import bulk_insert, rollups
from ccapi.service import hosts
from ccapi.service.rollups import rebuild
from tests.client import START
from tests.service.test_statistics import DAY, NOW, random_job

JOBS, QUERIES, ROUNDS = 300, 10, 4


def scan(jobs: dict[int, NewJob], time: Range, clusters: list[str] | None) -> list[HostJobs]:
    """Count the jobs of each host one by one."""
    counted: dict[tuple[str, str], HostJobs] = {}
    users: dict[tuple[str, str], set[str]] = {}
    for id_, job in jobs.items():
        stop = NOW if job.stop_time is None else job.stop_time
        if job.start_time > time.upper or stop < time.lower:
            continue
        if clusters and job.cluster not in clusters:
            continue
        for name in job.hostnames:
            key = job.cluster, name
            host = counted.setdefault(key, HostJobs(cluster=job.cluster, host=name))
            has_ended = job.stop_time is not None and job.stop_time <= time.upper
            host.num_running += job.stop_time is None
            host.num_jobs += 1
            host.num_ended += has_ended
            if has_ended and job.job_state in FAILURES:
                host.num_failures += 1
                users.setdefault(key, set()).add(job.user_name)
            last = LastJob(job.start_time, id_, job.job_id)
            host.last_job = max(host.last_job or last, last)
    for key, host in counted.items():
        host.num_failing_users = len(users.get(key, ()))
    return sorted(counted.values(), key=lambda host: (host.cluster, host.host))


def test_hosts_with_rollups_equal_a_scan_of_the_jobs(context: Context) -> None:
    rng, database = Random(5), context.database
    with database.transaction() as conn:
        several = [random_job(number, rng) for number in range(1, JOBS + 1)]
        jobs = dict(zip(bulk_insert.load(conn, several), several, strict=True))
    used = 0
    for _ in range(ROUNDS):
        assert sum(rebuild(database, NOW + 3 * DAY)) > 0
        for _ in range(QUERIES):
            begin = START + rng.randrange(8 * DAY) - DAY
            time = Range(begin, begin + rng.choice([4 * DAY, 12 * DAY, 30 * DAY]))
            clusters = rng.choice([None, ["alex"]])
            job_filter = JobFilter(cluster=clusters, now=NOW)
            with database.snapshot() as conn:
                days = rollups.find_days(conn, job_filter, time, rollups.HOST_COLUMNS)
            used += days is not None
            report = hosts.report(context, time, clusters, NOW)
            rows = [row.jobs for cluster in report.values() for row in cluster.hosts]
            assert rows == scan(jobs, time, clusters), (time, days)
        id_ = rng.choice(list(jobs))
        with database.transaction() as conn:
            conn.execute(
                "UPDATE jobs SET job_state = 'node_fail', stop_time = start_time WHERE id = %s",
                [id_],
            )
        jobs[id_] = replace(jobs[id_], job_state="node_fail", stop_time=jobs[id_].start_time)
    assert used > ROUNDS * QUERIES / 2


def test_long_ranges_of_hosts_need_rollups(context: Context) -> None:
    with context.database.transaction() as conn:
        bulk_insert.load(conn, [random_job(1, Random(1))])
    sum(rebuild(context.database, NOW + 101 * DAY))
    time = Range(NOW, NOW + 100 * DAY)
    assert hosts.report(context, time, None, NOW) == {}
    limited = replace(context, scope=Scope(users=("anna",)))
    with pytest.raises(InvalidInput, match="must be at most 31 days long, besides days with"):
        hosts.report(limited, time, None, NOW)
