"""How many jobs ran in the time before now, how they ended, and what was in use."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ccapi.context import Context
from ccapi.errors import Busy
from ccapi.model.job import JobFilter, JobState, Range
from ccapi.model.statistics import Group, GroupBy, Statistics, StatisticsQuery, Sums
from ccapi.service import statistics
from ccapi.web import charts
from ccapi.web.charts import Steps

_MAX_GROUPS = 10
# The resources of so many jobs are read for the distinct nodes of a page, in about 50 ms.
_MAX_DISTINCT_JOBS = 2_000


@dataclass(frozen=True)
class Totals:
    """What jobs used, and what was in use over time; `states` begins with the most frequent one.

    `num_nodes` is None unless nodes count once, however many jobs share them.
    """

    sums: Sums
    states: list[tuple[JobState, int]]
    charts: list[tuple[str, Steps]]
    num_nodes: int | None

    @property
    def num_ended(self) -> int:
        """Return how many of the jobs have ended."""
        return sum(number for state, number in self.states if state is not JobState.RUNNING)

    @property
    def failure_percent(self) -> float | None:
        """Return which part of the jobs that ended failed; None if none ended."""
        rate = self.sums.failure_rate
        return None if rate is None else 100 * rate


def of(result: Statistics, *, of_host: bool = False) -> Totals:
    """Return the totals of statistics with end states and a timeline.

    The charts are of nodes and, if jobs had any, of threads and GPUs; on one host, of jobs.
    """
    points, distinct = result.timeline, result.distinct
    if distinct is None:
        name = "Nodes of running jobs; a shared node counts for each"
        nodes: list[float] = [point.num_nodes for point in points]
    else:
        name = "Nodes in use"
        nodes = [numbers.nodes for numbers in result.distinct_timeline]
    several: list[tuple[str, list[float]]] = [
        (name, nodes),
        ("Threads of running jobs", [point.num_cores for point in points]),
        ("GPUs of running jobs", [point.num_gpus for point in points]),
    ]
    if of_host:
        several = [("Running jobs", [point.num_jobs for point in points])]
    times = [point.time for point in points]
    return Totals(
        sums=result.total,
        states=sorted((result.total.states or {}).items(), key=lambda pair: -pair[1]),
        charts=[(name, charts.steps(times, values)) for name, values in several if any(values)],
        num_nodes=None if distinct is None else int(distinct.nodes),
    )


def count(context: Context, jobs: JobFilter, seconds: int) -> Totals:
    """Count the jobs that ran in the seconds before `jobs.now`, by state and over time."""
    query = StatisticsQuery(
        jobs=jobs,
        time=Range(jobs.now - seconds, jobs.now),
        group_by=frozenset([GroupBy.CLUSTER]),
        limit=1,
        with_timeline=True,
        with_end_states=True,
    )
    if jobs.host is not None:
        return of(statistics.compute(context, query), of_host=True)
    return of(compute(context, query))


def compute(context: Context, query: StatisticsQuery) -> Statistics:
    """Compute statistics with a timeline; if the jobs are few, a shared node counts once."""
    result = statistics.compute(context, query)
    if query.with_distinct or not 0 < result.num_jobs <= _MAX_DISTINCT_JOBS:
        return result
    query = replace(query, with_waits=False, with_end_states=False, histograms=())
    try:
        distinct = statistics.compute(context, replace(query, with_distinct=True))
    except Busy:
        return result
    return replace(
        result,
        distinct=distinct.distinct,
        distinct_seconds=distinct.distinct_seconds,
        distinct_timeline=distinct.distinct_timeline,
    )


def top_groups(
    context: Context, jobs: JobFilter, seconds: int, by: Sequence[GroupBy]
) -> dict[str, list[Group]]:
    """Return the groups with most node-hours in the seconds before `jobs.now`, by each field."""
    groups = {}
    for field in by:
        query = StatisticsQuery(
            jobs=jobs,
            time=Range(jobs.now - seconds, jobs.now),
            group_by=frozenset([field]),
            limit=_MAX_GROUPS,
            with_timeline=False,
            with_end_states=True,
        )
        groups[field.value] = statistics.compute(context, query).groups
    return groups
