"""Statistics equal the sum over single jobs."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from ccapi.context import Context
from ccapi.db.pool import Database
from ccapi.errors import InvalidInput
from ccapi.model.cluster import Clusters
from ccapi.model.job import FINAL_STATES, JobFilter, JobState, NewJob, Range
from ccapi.model.statistics import Group, GroupBy, Point, StatisticsQuery
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
        resources=[{"hostname": f"f{node}"} for node in range(nodes)],
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
        and all(span is None or span[0] <= value <= span[1] for span, value in within)
    )


def node_seconds(job: NewJob, time: Range) -> int:
    seconds = min(end(job), time.upper) - max(job.start_time, time.lower)
    return len(job.resources) * max(0, seconds)


def groups(counted: list[NewJob], query: StatisticsQuery) -> list[Group]:
    """Return the sums of each group, not sorted."""
    values: dict[tuple[str, ...], list[int]] = defaultdict(list)
    order = [by for by in GroupBy if by in query.group_by]
    for job in counted:
        names = {
            GroupBy.CLUSTER: job.cluster,
            GroupBy.STATE: state(job),
            GroupBy.USER: job.user_name,
            GroupBy.PROJECT: job.project,
            GroupBy.PARTITION: job.partition or "",
        }
        values[tuple(names[by] for by in order)].append(node_seconds(job, query.time))
    return [
        Group(dict(zip(order, names, strict=True)), len(seconds), sum(seconds))
        for names, seconds in values.items()
    ]


def point(counted: list[NewJob], time: int) -> Point:
    nodes = [
        len(job.resources)
        for job in counted
        if job.start_time <= time and (job.stop_time is None or time < job.stop_time)
    ]
    return Point(time, len(nodes), sum(nodes))


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
        group_by=frozenset(rng.sample(list(GroupBy), rng.randrange(1, 4))),
        sort_by_num_jobs=rng.random() < 0.5,
        limit=1000,
        with_timeline=True,
        step=rng.choice([None, length // rng.randrange(1, 300) + 1]),
    )


def test_statistics_equal_the_sum_over_jobs(jobs: list[NewJob], context: Context) -> None:
    rng = Random(2)
    for _ in range(QUERIES):
        query = random_query(rng)
        counted = [job for job in jobs if is_counted(job, query)]
        result = statistics.compute(context, query)
        expected = groups(counted, query)
        assert by_name(result.groups) == by_name(expected), query
        sums = sum(g.num_jobs for g in expected), sum(g.node_seconds for g in expected)
        assert (result.num_jobs, result.node_seconds) == sums, query
        assert result.num_groups == len(expected)
        first = -(-query.time.lower // result.step)  # type: ignore[operator] # set by the query
        last = min(query.time.upper, NOW) // result.step  # type: ignore[operator]
        times = [number * result.step for number in range(first, last + 1)]  # type: ignore[operator]
        assert result.timeline == [point(counted, time) for time in times], query


@pytest.mark.parametrize("sort_by_num_jobs", [True, False])
@pytest.mark.usefixtures("jobs")
def test_groups_are_sorted_and_limited(context: Context, *, sort_by_num_jobs: bool) -> None:
    def read_groups(limit: int) -> list[Group]:
        query = StatisticsQuery(
            jobs=JobFilter(now=NOW),
            time=Range(START, NOW),
            group_by=frozenset(GroupBy),
            sort_by_num_jobs=sort_by_num_jobs,
            limit=limit,
            with_timeline=False,
        )
        result = statistics.compute(context, query)
        assert (result.num_jobs, result.step, result.timeline) == (JOBS, None, [])
        assert result.num_groups > 30
        return result.groups

    everything = read_groups(1000)
    order = [group.num_jobs if sort_by_num_jobs else group.node_seconds for group in everything]
    assert order == sorted(order, reverse=True)
    assert read_groups(30) == everything[:30]
    assert read_groups(1) == everything[:1]


def query_of(**changed: object) -> StatisticsQuery:
    defaults = {
        "jobs": JobFilter(now=NOW),
        "time": Range(START, NOW),
        "group_by": frozenset({GroupBy.CLUSTER}),
        "sort_by_num_jobs": False,
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
