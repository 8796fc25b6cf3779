"""Statistics equal a sum over all jobs, one by one."""

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
# Longer jobs are found by an index of their own.
LONG = 90_000
NOW = START + 20 * DAY
JOBS = 500
QUERIES = 200


def recorded(number: int, rng: Random) -> NewJob:
    """Make a job that took from no time to 9 days; one in ten runs."""
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
    took = rng.choice([0, 1, rng.randrange(7200), LONG, LONG + 1, rng.randrange(9 * DAY)])
    job.job_state, job.stop_time = rng.choice(FINAL_STATES), start + took
    return job


@pytest.fixture(scope="module")
def jobs(_migrated: Database) -> Iterator[list[NewJob]]:
    rng = Random(1)
    made = [recorded(number, rng) for number in range(1, JOBS + 1)]
    empty(_migrated)
    with _migrated.transaction() as conn:
        bulk_insert.load(conn, made)
    yield made
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
    wanted, begin, last = query.jobs, *query.time
    equal = (
        (wanted.cluster, job.cluster),
        (wanted.user_name, job.user_name),
        (wanted.project, job.project),
    )
    within = (
        (wanted.start_time, job.start_time),
        (wanted.num_nodes, len(job.resources)),
        (wanted.duration, max(1, end(job) - job.start_time)),
    )
    return (
        job.start_time <= last
        and end(job) >= begin
        and (not wanted.states or state(job) in wanted.states)
        and all(query in {None, found} for query, found in equal)
        and all(query is None or query[0] <= found <= query[1] for query, found in within)
    )


def node_seconds(job: NewJob, time: Range) -> int:
    seconds = min(end(job), time.upper) - max(job.start_time, time.lower)
    return len(job.resources) * max(0, seconds)


def groups(counted: list[NewJob], query: StatisticsQuery) -> list[Group]:
    """Add up by group; not sorted."""
    found: dict[tuple[str, ...], list[int]] = defaultdict(list)
    order = [by for by in GroupBy if by in query.group_by]
    for job in counted:
        names = {
            GroupBy.CLUSTER: job.cluster,
            GroupBy.STATE: state(job),
            GroupBy.USER: job.user_name,
            GroupBy.PROJECT: job.project,
            GroupBy.PARTITION: job.partition or "",
        }
        found[tuple(names[by] for by in order)].append(node_seconds(job, query.time))
    return [
        Group(dict(zip(order, names, strict=True)), len(took), sum(took))
        for names, took in found.items()
    ]


def point(counted: list[NewJob], time: int) -> Point:
    ran = [
        len(job.resources)
        for job in counted
        if job.start_time <= time and (job.stop_time is None or time < job.stop_time)
    ]
    return Point(time, len(ran), sum(ran))


def by_name(found: list[Group]) -> list[Group]:
    return sorted(found, key=lambda group: list(group.key.items()))


def random_query(rng: Random) -> StatisticsQuery:
    # Half of the jobs start at full hours, as some ranges begin and end.
    begin = START + rng.choice([rng.randrange(22 * DAY) - DAY, 3600 * rng.randrange(24)])
    length = rng.choice([0, 1, 3600, rng.randrange(7200), rng.randrange(9 * DAY), 40 * DAY])
    least, nodes = rng.randrange(3 * DAY), rng.randrange(1, 3)
    some = rng.choice([{}, {}, {"user_name": "bert"}, {"project": ""}, {"cluster": "alex"},
                       {"states": ["running"]}, {"states": ["running", "failed"]},
                       {"duration": Range(least, least + 3 * DAY)},
                       {"num_nodes": Range(nodes, 2)},
                       {"start_time": Range(START + least, START + 10 * DAY)}])  # fmt: skip
    return StatisticsQuery(
        jobs=JobFilter(**some, now=NOW),  # type: ignore[arg-type] # one of several kinds
        time=Range(begin, begin + length),
        group_by=frozenset(rng.sample(list(GroupBy), rng.randrange(1, 4))),
        sort_by_num_jobs=rng.random() < 0.5,
        limit=1000,
        with_timeline=True,
        step=rng.choice([None, length // rng.randrange(1, 300) + 1]),
    )


def test_statistics_are_what_all_jobs_add_up_to(jobs: list[NewJob], context: Context) -> None:
    rng = Random(2)
    for _ in range(QUERIES):
        query = random_query(rng)
        counted = [job for job in jobs if is_counted(job, query)]
        found = statistics.compute(context, query)
        expected = groups(counted, query)
        assert by_name(found.groups) == by_name(expected), query
        sums = sum(g.num_jobs for g in expected), sum(g.node_seconds for g in expected)
        assert (found.num_jobs, found.node_seconds) == sums, query
        assert found.num_groups == len(expected)
        first = -(-query.time.lower // found.step)  # type: ignore[operator] # query for
        last = min(query.time.upper, NOW) // found.step  # type: ignore[operator]
        times = [number * found.step for number in range(first, last + 1)]  # type: ignore[operator]
        assert found.timeline == [point(counted, time) for time in times], query


@pytest.mark.parametrize("sort_by_num_jobs", [True, False])
@pytest.mark.usefixtures("jobs")
def test_the_groups_with_the_most_are_shown(context: Context, *, sort_by_num_jobs: bool) -> None:
    def ask(limit: int) -> list[Group]:
        query = StatisticsQuery(
            jobs=JobFilter(now=NOW),
            time=Range(START, NOW),
            group_by=frozenset(GroupBy),
            sort_by_num_jobs=sort_by_num_jobs,
            limit=limit,
            with_timeline=False,
        )
        found = statistics.compute(context, query)
        assert (found.num_jobs, found.step, found.timeline) == (JOBS, None, [])
        assert found.num_groups > 30
        return found.groups

    everything = ask(1000)
    most = [group.num_jobs if sort_by_num_jobs else group.node_seconds for group in everything]
    assert most == sorted(most, reverse=True)
    assert ask(30) == everything[:30]
    assert ask(1) == everything[:1]


def asking(**changed: object) -> StatisticsQuery:
    usual = {
        "jobs": JobFilter(now=NOW),
        "time": Range(START, NOW),
        "group_by": frozenset({GroupBy.CLUSTER}),
        "sort_by_num_jobs": False,
        "limit": 1,
        "with_timeline": True,
    }
    return StatisticsQuery(**{**usual, **changed})  # type: ignore[arg-type] # of several kinds


@pytest.mark.parametrize("seconds", [0, 1, 3600, DAY, 7 * DAY, 31 * DAY, 366 * DAY])
def test_a_step_that_is_not_given_makes_a_few_hundred_points_at_most(
    context: Context, seconds: int
) -> None:
    now = START + seconds
    found = statistics.compute(context, asking(jobs=JobFilter(now=now), time=Range(START, now)))
    assert len(found.timeline) <= 301
    assert len(found.timeline) >= 60 or seconds < 3600


def test_there_is_no_point_of_a_time_that_is_to_come(context: Context) -> None:
    found = statistics.compute(context, asking(time=Range(NOW - 600, NOW + DAY), step=100))
    assert [found.timeline[0].time, found.timeline[-1].time] == [NOW - 600, NOW]
    found = statistics.compute(context, asking(time=Range(NOW + 1, NOW + DAY), step=100))
    assert found.timeline == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"time": Range(START, START + 366 * DAY + 1)}, "range: must be at most 366 days"),
        ({"time": Range(2**62, 2**62)}, "range: must end at"),
        ({"step": 1}, "step: must be at least 865 seconds"),
    ],
)
def test_too_much_is_refused(context: Context, changed: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        statistics.compute(context, asking(**changed))


def test_the_step_that_a_refusal_names_is_long_enough(context: Context) -> None:
    assert len(statistics.compute(context, asking(step=865)).timeline) <= 2000
