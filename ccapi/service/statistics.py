"""Statistics of the jobs that ran within a range of time."""

from itertools import accumulate

from ccapi.errors import InvalidInput
from ccapi.model.job import MAX_EPOCH_SECOND
from ccapi.model.statistics import Point, Points, StatisticsQuery, Statistics
from ccapi.repository import statistics
from ccapi.repository.statistics import StatisticsResult
from ccapi.context import Context

# A leap year: what a statement may read in its time, however many jobs a site has.
MAX_RANGE_DAYS = 366
MAX_POINTS = 2_000
_DAY_SECONDS = 86_400
# Steps that a person would choose, up to what the longest range needs.
_STEPS = (60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 172_800)
_USUAL_POINTS = 300
_NO_POINTS = Points(0, 1, 0)


def ask(context: Context, question: StatisticsQuery) -> Statistics:
    """Count jobs; raises InvalidInput: too long a range, too short a step."""
    _check_range(question)
    points = _points(question) if question.with_timeline else _NO_POINTS
    with context.database.statement() as conn:
        found = statistics.read(conn, question, points)
    return Statistics(
        num_jobs=found.num_jobs,
        node_seconds=found.node_seconds,
        num_groups=found.num_groups,
        groups=found.groups,
        step=points.step if question.with_timeline else None,
        timeline=_timeline(found, points),
    )


def _check_range(question: StatisticsQuery) -> None:
    begin, end = question.time
    if end > MAX_EPOCH_SECOND:
        raise InvalidInput.of("range", f"must end at {MAX_EPOCH_SECOND} at the latest")
    if end - begin > MAX_RANGE_DAYS * _DAY_SECONDS:
        raise InvalidInput.of("range", f"must be at most {MAX_RANGE_DAYS} days long")


def _points(question: StatisticsQuery) -> Points:
    """Return the multiples of the step within the range, none after now.

    So they stay where they are while a range moves on.
    """
    begin, end = question.time.least, min(question.time.most, question.jobs.now)
    step = question.step or _step(end - begin)
    first = -(-begin // step) * step
    number = max(0, (end - first) // step + 1)
    if number > MAX_POINTS:
        least = (end - begin) // MAX_POINTS + 1
        raise InvalidInput.of("step", f"must be at least {least} seconds for this range")
    return Points(first, step, number)


def _step(length: int) -> int:
    """Choose the shortest step that needs no more than the usual number of points."""
    return next(step for step in _STEPS if length <= step * _USUAL_POINTS)


def _timeline(found: StatisticsResult, points: Points) -> list[Point]:
    numbers = range(points.number)
    jobs = accumulate(found.job_delta[number] for number in numbers)
    nodes = accumulate(found.node_delta[number] for number in numbers)
    times = (points.first + number * points.step for number in numbers)
    return [Point(*facts) for facts in zip(times, jobs, nodes, strict=True)]
