"""How many jobs ran in the time before now, how they ended, and on how many nodes."""

from collections.abc import Sequence
from dataclasses import dataclass

from ccapi.context import Context
from ccapi.model.job import FAILURES, JobFilter, JobState, Range
from ccapi.model.statistics import Group, GroupBy, GroupOrder, Statistics, StatisticsQuery
from ccapi.service import statistics
from ccapi.web import charts
from ccapi.web.charts import Steps

_MAX_GROUPS = 10


@dataclass(frozen=True)
class Totals:
    """Jobs, their node-hours, their states, and their nodes over time."""

    num_jobs: int
    node_hours: float
    states: list[Group]
    chart: Steps

    @property
    def num_ended(self) -> int:
        """Return how many of the jobs have ended."""
        return sum(
            group.num_jobs for group in self.states if group.key["state"] != JobState.RUNNING
        )

    @property
    def failure_rate(self) -> float | None:
        """Return which part of the jobs that ended failed, in percent; None if none ended."""
        failed = sum(group.num_jobs for group in self.states if group.key["state"] in FAILURES)
        return 100 * failed / self.num_ended if self.num_ended else None


def count_states(context: Context, jobs: JobFilter, seconds: int) -> Totals:
    """Count the jobs that ran in the seconds before `jobs.now`, by state and over time.

    The chart is of nodes; the jobs of a host are counted themselves.
    """
    return of(_count(context, jobs, seconds, GroupBy.STATE), chart_of_jobs=jobs.host is not None)


def of(result: Statistics, *, chart_of_jobs: bool = False) -> Totals:
    """Return the totals of jobs that are grouped by state."""
    timeline = result.timeline
    values = [point.num_jobs if chart_of_jobs else point.num_nodes for point in timeline]
    return Totals(
        num_jobs=result.num_jobs,
        node_hours=result.node_seconds / 3600,
        states=result.groups,
        chart=charts.steps(values),
    )


def top_groups(
    context: Context, jobs: JobFilter, seconds: int, by: Sequence[GroupBy]
) -> dict[str, list[Group]]:
    """Return the groups with most node-hours in the seconds before `jobs.now`, by each field."""
    return {field: _count(context, jobs, seconds, field).groups for field in by}


def _count(context: Context, jobs: JobFilter, seconds: int, by: GroupBy) -> Statistics:
    is_by_state = by is GroupBy.STATE
    query = StatisticsQuery(
        jobs=jobs,
        time=Range(jobs.now - seconds, jobs.now),
        group_by=frozenset([by]),
        order=GroupOrder.NUM_JOBS if is_by_state else GroupOrder.NODE_HOURS,
        limit=len(JobState) if is_by_state else _MAX_GROUPS,
        with_timeline=is_by_state,
    )
    return statistics.compute(context, query)
