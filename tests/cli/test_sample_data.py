import time
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import pytest

from ccapi.cli import sample_data
from ccapi.model.job import JobState, NewJob

NOW = 1_790_000_000
Jobs = Sequence[NewJob]


@pytest.fixture(scope="module")
def jobs() -> Jobs:
    return list(sample_data.jobs(5000, now=NOW))


def stopped(jobs: Jobs) -> Jobs:
    return [one for one in jobs if one.stop_time is not None]


def running(jobs: Jobs) -> Jobs:
    return [one for one in jobs if one.stop_time is None]


@pytest.mark.parametrize("count", [0, 1, 7, 499])
def test_number_of_jobs(count: int) -> None:
    assert len(list(sample_data.jobs(count, now=NOW))) == count


def test_seed_determines_the_jobs() -> None:
    first, again, other = (list(sample_data.jobs(50, now=NOW, seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_job_ids_are_unique_and_larger_than_existing_ones(jobs: Jobs) -> None:
    last = max(one.job_id for one in jobs)
    more = [one.job_id for one in sample_data.jobs(1000, now=NOW, after_job_id=last)]
    assert len({*more, *(one.job_id for one in jobs)}) == 6000
    assert min(more) > last


def test_completed_jobs_prevail_and_each_state_occurs(jobs: Jobs) -> None:
    states = Counter(one.job_state for one in jobs)
    assert set(states) == set(JobState)
    assert states[JobState.COMPLETED] > 0.7 * len(jobs)
    assert {one.job_state for one in sample_data.jobs(350, now=NOW)} == set(JobState)


def test_running_jobs_are_few_and_have_walltime_left(jobs: Jobs) -> None:
    now_running = running(jobs)
    assert 0 < len(now_running) <= 0.02 * len(jobs)
    for job in now_running:
        assert job.start_time < NOW < job.start_time + (job.walltime or 0)
        assert job.monitoring_status == 1
        assert job.statistics is None


@pytest.mark.slow
def test_running_jobs_do_not_share_nodes() -> None:
    hosts = [
        host for one in running(list(sample_data.jobs(20_000, now=NOW))) for host in one.hostnames
    ]
    assert len(set(hosts)) == len(hosts)


def test_stopped_jobs_ended_within_their_walltime(jobs: Jobs) -> None:
    for one in stopped(jobs):
        stop_time = one.stop_time or 0
        assert NOW - sample_data.YEAR_SECONDS <= one.start_time <= stop_time < NOW
        assert stop_time - one.start_time <= (one.walltime or 0)
        if one.job_state is JobState.TIMEOUT:
            assert stop_time - one.start_time == one.walltime


def test_stopped_jobs_have_statistics_and_no_archiving(jobs: Jobs) -> None:
    for one in stopped(jobs):
        assert one.monitoring_status == 0
        for measured in (one.statistics or {}).values():
            assert 0 <= measured["min"] <= measured["avg"] <= measured["max"]
        assert (one.statistics or {})["mem_bw"]["unit"] == "GB/s"


def test_starts_are_in_order_and_rarer_at_night(jobs: Jobs) -> None:
    starts = [one.start_time for one in stopped(jobs)]
    assert all(earlier <= later for earlier, later in pairwise(starts))
    times = [time.gmtime(start) for start in starts]
    at_work = sum(at.tm_wday < 5 and 8 <= at.tm_hour < 18 for at in times)
    assert 0.5 < at_work / len(times) < 0.7


def test_nodes_fit_the_partition(jobs: Jobs) -> None:
    letters = {"main": "f", "bigmem": "m", "gpu": "g"}
    for job in jobs:
        assert {host[0] for host in job.hostnames} == {letters[job.sub_cluster]}
        assert job.partition == "gpu" if job.num_acc else job.partition != "gpu"
        assert job.num_hwthreads == sum(len(one["hwthreads"]) for one in job.resources)
        assert (job.num_acc or 0) == sum(len(one.get("accelerators", ())) for one in job.resources)


def test_small_jobs_and_a_few_users_prevail(jobs: Jobs) -> None:
    sizes = Counter(one.num_nodes for one in jobs)
    assert sizes[1] > len(jobs) / 2
    assert max(size or 0 for size in sizes) == 64
    users = Counter(one.user_name for one in jobs)
    assert len(users) > 100
    assert sum(number for _, number in users.most_common(20)) > len(jobs) / 2


def test_jobs_of_an_array_are_alike(jobs: Jobs) -> None:
    arrays: dict[int, list[NewJob]] = {}
    for one in jobs:
        if one.array_job_id:
            arrays.setdefault(one.array_job_id, []).append(one)
    assert len(arrays) > 10
    for first, tasks in arrays.items():
        assert [one.job_id for one in tasks] == list(range(first, first + len(tasks)))
        assert len({(one.user_name, one.num_nodes) for one in tasks}) == 1


def test_tags_and_scripts(jobs: Jobs) -> None:
    assert 0.05 < sum(bool(one.tags) for one in jobs) / len(jobs) < 0.11
    for job in jobs:
        assert job.meta_data is not None
        assert job.meta_data["jobScript"].startswith("#!/bin/bash")
        assert f"JobId={job.job_id} " in job.meta_data["slurmInfo"]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_jobs() -> None:
    tracemalloc.start()
    try:
        for _, _ in zip(range(2000), sample_data.jobs(1_000_000, now=NOW), strict=False):
            pass
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
