"""How many jobs ran in the time before now, how they ended, and on how many nodes."""

from collections.abc import Sequence
from dataclasses import dataclass

from ccapi.context import Context
from ccapi.model.job import JobFilter, JobState, Range
from ccapi.model.statistics import Group, GroupBy, Statistics, StatisticsQuery, Sums
from ccapi.service import statistics
from ccapi.web import charts
from ccapi.web.charts import Steps

_MAX_GROUPS = 10


@dataclass(frozen=True)
class Totals:
    """What jobs used, and their nodes over time; `states` begins with the most frequent one."""

    sums: Sums
    states: list[tuple[JobState, int]]
    chart: Steps

    @property
    def num_ended(self) -> int:
        """Return how many of the jobs have ended."""
        return sum(number for state, number in self.states if state is not JobState.RUNNING)

    @property
    def failure_percent(self) -> float | None:
        """Return which part of the jobs that ended failed; None if none ended."""
        rate = self.sums.failure_rate
        return None if rate is None else 100 * rate


def of(result: Statistics, *, chart_of_jobs: bool = False) -> Totals:
    """Return the totals of statistics with end states and a timeline."""
    timeline = result.timeline
    states = (result.total.states or {}).items()
    return Totals(
        sums=result.total,
        states=sorted(states, key=lambda pair: -pair[1]),
        chart=charts.steps(
            [point.num_jobs if chart_of_jobs else point.num_nodes for point in timeline]
        ),
    )


def count(context: Context, jobs: JobFilter, seconds: int) -> Totals:
    """Count the jobs that ran in the seconds before `jobs.now`, by state and over time.

    The chart is of nodes; the jobs of a host are counted themselves.
    """
    query = StatisticsQuery(
        jobs=jobs,
        time=Range(jobs.now - seconds, jobs.now),
        group_by=frozenset([GroupBy.CLUSTER]),
        limit=1,
        with_timeline=True,
        with_end_states=True,
    )
    return of(statistics.compute(context, query), chart_of_jobs=jobs.host is not None)


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
