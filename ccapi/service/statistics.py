"""Compute statistics of the jobs that ran within a time range."""

from dataclasses import replace
from itertools import accumulate

from ccapi.context import Context
from ccapi.errors import InvalidInput
from ccapi.model.rules import MAX_EPOCH_SECOND
from ccapi.model.statistics import (
    DAY_SECONDS,
    PERIODS,
    Distinct,
    Point,
    Points,
    Statistics,
    StatisticsQuery,
)
from ccapi.model.usage import DistinctUsage
from ccapi.repository import rollups, statistics
from ccapi.service.rollups import require_short

# A leap year: what a statement can read within its timeout at a site of any size, beside roll-ups.
MAX_RANGE_DAYS = 366
MAX_POINTS = 2_000
_CHEAP_DAYS = 2
# Steps that a person would choose; longer ones are whole days.
_STEPS = (60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 172_800)
_DEFAULT_MAX_POINTS = 300
_NO_POINTS = Points(0, 1, 0)


def compute(context: Context, query: StatisticsQuery) -> Statistics:
    """Count jobs; raises InvalidInput for a range that is too long or a step too short."""
    begin, end = query.time
    if end > MAX_EPOCH_SECOND:
        raise InvalidInput.of("range", f"must end at {MAX_EPOCH_SECOND} at the latest")
    if len(PERIODS & query.group_by) > 1:
        raise InvalidInput.of("group-by", "must have only one of day, week and month")
    points = _timeline_points(query) if query.with_timeline else _NO_POINTS
    database = context.database
    is_expensive = query.with_distinct or end - begin > _CHEAP_DAYS * DAY_SECONDS
    with database.slot(is_expensive=is_expensive), database.snapshot() as conn:
        days = rollups.find_days_of_query(conn, query, points)
        require_short(query.time, days, MAX_RANGE_DAYS)
        result = statistics.compute(conn, query, points, days)
        histograms = {of: statistics.histogram(conn, query, of, days) for of in query.histograms}
        usage = statistics.usage(conn, query, points) if query.with_distinct else None
    numbers = range(points.number)
    times = (points.first + number * points.step for number in numbers)
    deltas = (result.job_delta, result.node_delta, result.core_delta, result.gpu_delta)
    counts = [accumulate([delta[number] for number in numbers]) for delta in deltas]
    answer = Statistics(
        total=result.total,
        num_groups=result.num_groups,
        groups=result.groups,
        step=points.step if query.with_timeline else None,
        timeline=[Point(*values) for values in zip(times, *counts, strict=True)],
        histograms=histograms,
    )
    return answer if usage is None else _with_distinct(answer, usage)


def _with_distinct(result: Statistics, usage: DistinctUsage) -> Statistics:
    """Add nodes, cores and GPUs that count once, however many jobs share them."""
    parts = (usage.nodes, usage.cores, usage.gpus)
    return replace(
        result,
        distinct=Distinct(*(part.num_units for part in parts)),
        distinct_seconds=Distinct(*(part.seconds for part in parts)),
        distinct_timeline=[Distinct(*numbers) for numbers in usage.timeline],
    )


def _timeline_points(query: StatisticsQuery) -> Points:
    """Return the multiples of the step within the range, none after now.

    Multiples stay where they are while a range moves on. Without a step, the shortest one
    with few enough points is chosen.
    """
    begin, end = query.time.lower, min(query.time.upper, query.jobs.now)
    length = end - begin
    whole_days = -(-length // (_DEFAULT_MAX_POINTS * DAY_SECONDS)) * DAY_SECONDS
    steps = (step for step in _STEPS if length <= step * _DEFAULT_MAX_POINTS)
    step = query.step or next(steps, whole_days)
    first = -(-begin // step) * step
    number = max(0, (end - first) // step + 1)
    if number > MAX_POINTS:
        min_step = length // MAX_POINTS + 1
        raise InvalidInput.of("step", f"must be at least {min_step} seconds for this range")
    return Points(first, step, number)
