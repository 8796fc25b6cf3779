"""Statistics equal the sum over single jobs."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ccapi.context import Context
from ccapi.db.pool import Database
from ccapi.errors import InvalidInput
from ccapi.model.cluster import Clusters
from ccapi.model.job import FINAL_STATES, JobFilter, JobState, NewJob, Range
from ccapi.model.statistics import (
    PERIODS,
    Bin,
    Group,
    GroupBy,
    GroupOrder,
    HistogramOf,
    Point,
    Statistics,
    StatisticsQuery,
    Sums,
    Waits,
)
from ccapi.repository import bulk_insert
from ccapi.service import statistics
from tests.client import START
from tests.conftest import empty

DAY = 86_400
# Longer jobs have an index of their own.
LONG = 90_000
NOW = START + 20 * DAY
JOBS = 500
QUERIES = 200


def random_resources(nodes: int, rng: Random) -> list[dict[str, Any]]:
    """Make nodes with or without threads and GPUs, alike or not."""
    resources: list[dict[str, Any]] = [{"hostname": f"f{node}"} for node in range(nodes)]
    if rng.random() < 0.5:
        threads = rng.choice([[3], list(range(72)), [0, 1, 2, 36, 37, 38]])
        resources = [{**node, "hwthreads": threads} for node in resources]
        resources[0]["hwthreads"] = rng.choice([threads, [5, 7]])
        resources[-1]["accelerators"] = rng.choice([[], ["0", "1"]])
    return resources


def random_job(number: int, rng: Random) -> NewJob:
    """Make a job of 0 seconds to 9 days; one in ten is running."""
    start = START + rng.choice([rng.randrange(20 * DAY), rng.randrange(24) * 3600])
    nodes = rng.choice([1, 1, 1, 2, 7])
    job = NewJob(
        job_id=number,
        start_time=start,
        user_name=rng.choice(["anna", "bert", "Carla", "größe"]),
        project=rng.choice(["", "p1", "p2"]),
        cluster=rng.choice(["alex", "fritz"]),
        partition=rng.choice([None, "main", "large"]),
        sub_cluster=rng.choice(["", "spr"]),
        array_job_id=rng.choice([None, 7, 8]),
        meta_data=rng.choice([None, {"jobName": "rotor"}]),
        submit_time=rng.choice([None, start - rng.randrange(DAY), start + 1]),
        walltime=rng.choice([None, 3600, DAY]),
        num_hwthreads=rng.choice([None, nodes * 72]),
        num_acc=rng.choice([None, nodes * 4]),
        resources=random_resources(nodes, rng),
    )
    if rng.random() < 0.1:
        return job
    duration = rng.choice([0, 1, rng.randrange(7200), LONG, LONG + 1, rng.randrange(9 * DAY)])
    job.job_state, job.stop_time = rng.choice(FINAL_STATES), start + duration
    return job


@pytest.fixture(scope="module")
def jobs(_migrated: Database) -> Iterator[list[NewJob]]:
    rng = Random(1)
    all_jobs = [random_job(number, rng) for number in range(1, JOBS + 1)]
    empty(_migrated)
    with _migrated.transaction() as conn:
        bulk_insert.load(conn, all_jobs)
    yield all_jobs
    empty(_migrated)


@pytest.fixture
def context(_migrated: Database, tmp_path: Path) -> Context:
    return Context(
        database=_migrated, archive_root=tmp_path, clusters=Clusters(), duplicate_window=60
    )


def end(job: NewJob) -> int:
    return NOW if job.stop_time is None else job.stop_time


def state(job: NewJob) -> str:
    return job.job_state or JobState.RUNNING


def is_counted(job: NewJob, query: StatisticsQuery) -> bool:
    job_filter, begin, last = query.jobs, *query.time
    equal = (
        (job_filter.cluster, job.cluster),
        (job_filter.user_name, job.user_name),
        (job_filter.project, job.project),
        (job_filter.sub_cluster, job.sub_cluster),
        (job_filter.partition, job.partition),
        (job_filter.scope.users, job.user_name),
        (job_filter.scope.projects, job.project),
        (job_filter.scope.clusters, job.cluster),
    )
    unequal = (
        (job_filter.not_state, state(job)),
        (job_filter.not_user_name, job.user_name),
        (job_filter.not_partition, job.partition),
    )
    within = (
        (job_filter.start_time, job.start_time),
        (job_filter.num_nodes, len(job.resources)),
        (job_filter.duration, max(1, end(job) - job.start_time)),
    )
    return (
        job.start_time <= last
        and end(job) >= begin
        and (not job_filter.state or state(job) in job_filter.state)
        and all(expected is None or value in expected for expected, value in equal)
        and all(value not in (excluded or ()) for excluded, value in unequal)
        and all(span is None or span[0] <= value <= span[1] for span, value in within)
    )


def seconds_within(job: NewJob, lower: int, upper: int) -> int:
    return max(0, min(end(job), upper) - max(job.start_time, lower))


def cores(job: NewJob) -> int:
    if job.num_hwthreads is not None:
        return job.num_hwthreads
    return sum(len(node.get("hwthreads", [])) for node in job.resources)


def gpus(job: NewJob) -> int:
    if job.num_acc is None and job.num_hwthreads is None:
        return sum(len(node.get("accelerators", [])) for node in job.resources)
    return job.num_acc or 0


def wait(job: NewJob) -> int | None:
    return None if job.submit_time is None else max(0, job.start_time - job.submit_time)


def periods(job: NewJob, query: StatisticsQuery) -> Iterator[tuple[str, int, int]]:
    """Yield the name, begin and end of each day, week or month in which a job ran."""
    [by] = PERIODS & query.group_by or [None]
    if by is None:
        yield "", *query.time
        return
    day = datetime.fromtimestamp(max(job.start_time, query.time.lower), UTC)
    day = day.replace(hour=0, minute=0, second=0)
    days = {GroupBy.DAY: 0, GroupBy.WEEK: day.weekday(), GroupBy.MONTH: day.day - 1}
    begin = day - timedelta(days=days[by])
    while begin.timestamp() <= min(end(job), query.time.upper):
        if by is GroupBy.MONTH:
            after = (begin + timedelta(days=31)).replace(day=1)
        else:
            after = begin + timedelta(days=7 if by is GroupBy.WEEK else 1)
        iso = begin.isocalendar()
        names = {
            GroupBy.DAY: f"{begin:%Y-%m-%d}",
            GroupBy.WEEK: f"{iso.year}-W{iso.week:02}",
            GroupBy.MONTH: f"{begin:%Y-%m}",
        }
        lower, upper = int(begin.timestamp()), int(after.timestamp())
        yield names[by], max(lower, query.time.lower), min(upper, query.time.upper)
        begin = after


def sums(entries: list[tuple[NewJob, int, int]], query: StatisticsQuery) -> Sums:
    """Return what jobs used within some seconds each, as whole or as a part of their hosts."""
    jobs = [job for job, _, _ in entries]
    waits = sorted(value for value in map(wait, jobs) if value is not None and query.with_waits)
    ranks = [waits[ceil(share * len(waits)) - 1] for share in (0.5, 0.9, 0.99)] if waits else None
    return Sums(
        num_jobs=len(entries),
        node_seconds=sum(s * len(job.resources) / parts for job, s, parts in entries),
        core_seconds=sum(s * cores(job) / parts for job, s, parts in entries),
        gpu_seconds=sum(s * gpus(job) / parts for job, s, parts in entries),
        waits=Waits(*ranks) if ranks else None,
        states=Counter(JobState(state(job)) for job in jobs),
    )


def groups(counted: list[NewJob], query: StatisticsQuery) -> list[Group]:
    """Return the sums of each group, not sorted."""
    entries: dict[tuple[str, ...], list[tuple[NewJob, int, int]]] = defaultdict(list)
    order = [by for by in GroupBy if by in query.group_by]
    by_host = GroupBy.HOST in query.group_by
    for job in counted:
        for host in job.hostnames if by_host else [""]:
            for period, lower, upper in periods(job, query):
                names = {
                    GroupBy.CLUSTER: job.cluster,
                    GroupBy.STATE: state(job),
                    GroupBy.USER: job.user_name,
                    GroupBy.PROJECT: job.project,
                    GroupBy.PARTITION: job.partition or "",
                    GroupBy.SUB_CLUSTER: job.sub_cluster,
                    GroupBy.ARRAY: str(job.array_job_id or ""),
                    GroupBy.NAME: (job.meta_data or {}).get("jobName", ""),
                    GroupBy.HOST: host,
                    **dict.fromkeys(PERIODS, period),
                }
                parts = len(job.resources) if by_host else 1
                key = tuple(names[by] for by in order)
                entries[key].append((job, seconds_within(job, lower, upper), parts))
    return [
        Group({by.value: name for by, name in zip(order, names, strict=True)}, sums(several, query))
        for names, several in entries.items()
    ]


def point(counted: list[NewJob], time: int) -> Point:
    running = [
        job
        for job in counted
        if job.start_time <= time and (job.stop_time is None or time < job.stop_time)
    ]
    used = (sum(map(count, running)) for count in (lambda job: len(job.resources), cores, gpus))
    return Point(time, len(running), *used)


def assert_equal_sums(one: Sums, other: Sums) -> None:
    for name in ("node_seconds", "core_seconds", "gpu_seconds"):
        assert getattr(one, name) == pytest.approx(getattr(other, name))
    assert (one.num_jobs, one.waits, one.states or {}) == (
        other.num_jobs,
        other.waits,
        other.states or {},
    )


def by_name(groups: list[Group]) -> list[Group]:
    return sorted(groups, key=lambda group: list(group.key.items()))


def random_query(rng: Random) -> StatisticsQuery:
    # Half of the jobs start at full hours, and some ranges begin and end there.
    begin = START + rng.choice([rng.randrange(22 * DAY) - DAY, 3600 * rng.randrange(24)])
    length = rng.choice([0, 1, 3600, rng.randrange(7200), rng.randrange(9 * DAY), 40 * DAY])
    seconds, nodes = rng.randrange(3 * DAY), rng.randrange(1, 3)
    fields = rng.choice([{}, {}, {"user_name": ["bert"]}, {"project": [""]}, {"cluster": ["alex"]},
                       {"state": ["running"]}, {"state": ["running", "failed"]},
                       {"duration": Range(seconds, seconds + 3 * DAY)},
                       {"num_nodes": Range(nodes, 2)},
                       {"start_time": Range(START + seconds, START + 10 * DAY)}])  # fmt: skip
    return StatisticsQuery(
        jobs=JobFilter(**fields, now=NOW),  # type: ignore[arg-type] # one of several kinds
        time=Range(begin, begin + length),
        group_by=random_groups(rng),
        order=rng.choice(list(GroupOrder)),
        limit=1000,
        with_timeline=True,
        step=rng.choice([None, length // rng.randrange(1, 300) + 1]),
        with_waits=True,
        with_end_states=True,
        histograms=tuple(HistogramOf),
    )


def random_groups(rng: Random) -> frozenset[GroupBy]:
    groups = set(rng.sample(list(GroupBy), rng.randrange(1, 4)))
    return frozenset(groups - PERIODS | set(sorted(groups & PERIODS)[:1]))


def histogram(counted: list[NewJob], of: HistogramOf) -> list[Bin]:
    values = {
        HistogramOf.DURATION: lambda job: max(1, end(job) - job.start_time),
        HistogramOf.NUM_NODES: lambda job: len(job.resources),
        HistogramOf.NUM_ACC: lambda job: job.num_acc or 0,
        HistogramOf.WAIT: wait,
        HistogramOf.WALLTIME_USED: lambda job: (
            100 * max(1, end(job) - job.start_time) // job.walltime if job.walltime else None
        ),
    }
    known = [value for value in map(values[of], counted) if value is not None]
    bins = Counter(value.bit_length() for value in known)
    numbers = range(min(bins, default=0), max(bins, default=-1) + 1)
    return [Bin(2**n // 2, 2**n, bins[n]) for n in numbers]


def assert_sum_over_jobs(result: Statistics, jobs: list[NewJob], query: StatisticsQuery) -> None:
    counted = [job for job in jobs if is_counted(job, query)]
    expected = groups(counted, query)
    for group, other in zip(by_name(result.groups), by_name(expected), strict=True):
        assert group.key == other.key, query
        assert_equal_sums(group.sums, other.sums)
    whole = [(job, seconds_within(job, *query.time), 1) for job in counted]
    assert_equal_sums(result.total, sums(whole, query) if whole else Sums())
    assert result.histograms == {of: histogram(counted, of) for of in query.histograms}
    assert result.num_groups == len(expected)
    first = -(-query.time.lower // result.step)  # type: ignore[operator] # set by the query
    last = min(query.time.upper, NOW) // result.step  # type: ignore[operator]
    times = [number * result.step for number in range(first, last + 1)]  # type: ignore[operator]
    assert result.timeline == [point(counted, time) for time in times], query


@pytest.mark.slow
def test_statistics_equal_the_sum_over_jobs(jobs: list[NewJob], context: Context) -> None:
    rng = Random(2)
    for _ in range(QUERIES):
        query = random_query(rng)
        assert_sum_over_jobs(statistics.compute(context, query), jobs, query)


@pytest.mark.parametrize("order", GroupOrder)
@pytest.mark.usefixtures("jobs")
def test_groups_are_sorted_and_limited(context: Context, order: GroupOrder) -> None:
    def read_groups(limit: int) -> list[Group]:
        query = StatisticsQuery(
            jobs=JobFilter(now=NOW),
            time=Range(START, NOW),
            group_by=frozenset({GroupBy.USER, GroupBy.PROJECT, GroupBy.STATE}),
            order=order,
            limit=limit,
            with_timeline=False,
        )
        result = statistics.compute(context, query)
        assert (result.total.num_jobs, result.step, result.timeline) == (JOBS, None, [])
        assert result.num_groups > 30
        return result.groups

    everything = read_groups(1000)
    values = {
        GroupOrder.NUM_JOBS: lambda group: -group.sums.num_jobs,
        GroupOrder.NODE_HOURS: lambda group: -group.sums.node_seconds,
        GroupOrder.CORE_HOURS: lambda group: -group.sums.core_seconds,
        GroupOrder.GPU_HOURS: lambda group: -group.sums.gpu_seconds,
        GroupOrder.KEY: lambda group: list(JobState).index(group.key["state"]),
    }
    of_groups = list(map(values[order], everything))
    assert of_groups == sorted(of_groups)
    assert read_groups(30) == everything[:30]
    assert read_groups(1) == everything[:1]


def query_of(**changed: object) -> StatisticsQuery:
    defaults = {
        "jobs": JobFilter(now=NOW),
        "time": Range(START, NOW),
        "group_by": frozenset({GroupBy.CLUSTER}),
        "limit": 1,
        "with_timeline": True,
    }
    return StatisticsQuery(**{**defaults, **changed})  # type: ignore[arg-type] # of several kinds


@pytest.mark.parametrize("seconds", [0, 1, 3600, DAY, 7 * DAY, 31 * DAY, 366 * DAY])
def test_default_step_makes_at_most_301_points(context: Context, seconds: int) -> None:
    now = START + seconds
    result = statistics.compute(context, query_of(jobs=JobFilter(now=now), time=Range(START, now)))
    assert len(result.timeline) <= 301
    assert len(result.timeline) >= 60 or seconds < 3600


def test_timeline_ends_now(context: Context) -> None:
    result = statistics.compute(context, query_of(time=Range(NOW - 600, NOW + DAY), step=100))
    assert [result.timeline[0].time, result.timeline[-1].time] == [NOW - 600, NOW]
    result = statistics.compute(context, query_of(time=Range(NOW + 1, NOW + DAY), step=100))
    assert result.timeline == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"time": Range(START, START + 366 * DAY + 1)}, "range: must be at most 366 days"),
        ({"time": Range(2**62, 2**62)}, "range: must end at"),
        ({"step": 1}, "step: must be at least 865 seconds"),
    ],
)
def test_too_long_ranges_and_too_many_points_are_rejected(
    context: Context, changed: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        statistics.compute(context, query_of(**changed))


def test_minimum_step_of_the_message_is_accepted(context: Context) -> None:
    assert len(statistics.compute(context, query_of(step=865)).timeline) <= 2000
