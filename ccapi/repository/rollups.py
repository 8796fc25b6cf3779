"""Sum up the jobs of whole days, and read the sums: sql/queries/rollups.sql."""

from collections.abc import Collection, Sequence

from psycopg.rows import scalar_row

from ccapi.db import queries
from ccapi.db.pool import Connection
from ccapi.model.job import FAILURES, JobFilter, Range
from ccapi.model.statistics import (
    DAY_SECONDS,
    PERIODS,
    Days,
    GroupBy,
    HistogramOf,
    Points,
    StatisticsQuery,
)
from ccapi.repository.job_filter import Conditions, own_conditions

_SQL = queries.load("rollups")
_PARTS = queries.parts("job_groups")
# 0, and the powers of two: no value is above the last one.
BOUNDS = [0, *(2**number for number in range(63))]
# The roll-ups have the jobs of up to 25 hours.
MAX_SECONDS = 90_000
_BLOCK_DAYS = 16
_HOUR_SECONDS = 3600
_GROUPS = {
    *(GroupBy.CLUSTER, GroupBy.STATE, GroupBy.USER),
    *(GroupBy.PROJECT, GroupBy.PARTITION, GroupBy.SUB_CLUSTER),
}
_PERIOD_GROUPS = {
    *(GroupBy.CLUSTER, GroupBy.STATE, GroupBy.PARTITION, GroupBy.SUB_CLUSTER),
    *PERIODS,
}
# The columns of sums; those of timelines and histograms; those of hosts.
_FINE = ("cluster", "sub_cluster", "partition", "user_name", "project", "state")
_COARSE = _FINE[:3]
HOST_COLUMNS = _FINE[:1]


def _names(columns: Collection[str]) -> set[str]:
    """Return the names of the conditions on some columns."""
    names = ("{0}", "{0}_any", "not_{0}", "scope_{0}")
    return {name.format(column) for column in columns for name in names}


def conditions_of(job_filter: JobFilter) -> Conditions:
    """Return the conditions on the roll-ups' columns; the days fulfil that on start times."""
    names, params, _ = own_conditions(job_filter)
    return Conditions(tuple(name for name in names if name != "start_time"), params)


def find_days_of_query(conn: Connection, query: StatisticsQuery, points: Points) -> Days | None:
    """Find the days whose roll-ups a query can use, if there are any."""
    has_period = bool(query.group_by & PERIODS)
    if (
        not query.group_by <= (_PERIOD_GROUPS if has_period else _GROUPS)
        or query.with_distinct
        or (query.with_waits and has_period)
        or (query.with_timeline and points.step % _HOUR_SECONDS)
    ):
        return None
    columns = {*_FINE}
    if has_period:
        columns &= {*_COARSE, "state"}
    if query.with_timeline or query.histograms:
        columns &= {*_COARSE}
    return find_days(conn, query.jobs, query.time, columns)


def find_days(
    conn: Connection, jobs: JobFilter, time: Range, columns: Collection[str]
) -> Days | None:
    """Find the longest run of days that roll-ups with some columns have, if there is one.

    No job of these days begins before the time range, or ends after it.
    """
    others = set(conditions_of(jobs).names) - _names(columns)
    if others or (jobs.tag, jobs.not_tag, jobs.host) != (None, None, None):
        return None
    start = jobs.start_time or time
    first = -(-max(time.lower, start.lower) // DAY_SECONDS)
    end = min(start.upper + 1, time.upper + 1 - MAX_SECONDS) // DAY_SECONDS
    if first >= end:
        return None
    row = conn.execute(_SQL["find_days"], {"first_day": first, "end_day": end}).fetchone()
    return None if row is None else Days(*row)


def parts_of(time: Range, days: Days | None) -> dict[str, int]:
    """Return the parameters of a time range that say which of its jobs are in roll-ups."""
    first, end = days or (0, 0)
    after = time.upper + 1
    first_block = min(end, -(-first // _BLOCK_DAYS) * _BLOCK_DAYS)
    return {
        "range_from": time.lower,
        "range_to": time.upper,
        "rollup_from": first * DAY_SECONDS if days else after,
        "rollup_to": end * DAY_SECONDS if days else after,
        "first_day": first,
        "end_day": end,
        "first_block": first_block,
        "end_block": max(first_block, end // _BLOCK_DAYS * _BLOCK_DAYS),
    }


def timeline(
    conn: Connection, jobs: JobFilter, points: Points, days: Days
) -> list[tuple[int, int, int, int, int]]:
    """Return points, and how many more jobs, nodes, cores and GPUs are in use there."""
    conditions = conditions_of(jobs)
    sql = queries.fill(_SQL["rollup_timeline"], conditions=conditions.sql)
    params = {
        **conditions.params,
        "first_day": days.first,
        "end_day": days.end,
        "range_first_point": points.first,
        "step": points.step,
        "num_points": points.number,
    }
    return conn.execute(sql, params, prepare=False).fetchall()


def histogram(
    conn: Connection, jobs: JobFilter, of: HistogramOf, days: Days
) -> list[tuple[int, int]]:
    """Return the bins of a value, and how many jobs are in each."""
    conditions = conditions_of(jobs)
    sql = queries.fill(_SQL["rollup_histogram"], conditions=conditions.sql)
    params = {
        **conditions.params,
        "value": of.value,
        "first_day": days.first,
        "end_day": days.end,
    }
    return conn.execute(sql, params, prepare=False).fetchall()


def register_days(conn: Connection, end: int) -> None:
    """Let changes be recorded for each day from that of the first job up to `end`, excluded."""
    conn.execute(_SQL["register_days"], {"end_day": end})


def next_transaction(conn: Connection) -> str:
    """Return the id of the next transaction that writes."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        return str(cursor.execute(_SQL["next_transaction"]).fetchone())


def have_ended(conn: Connection, transaction: str) -> bool:
    """Return whether all transactions before an id have ended."""
    params = {"transaction": transaction}
    return conn.execute(_SQL["have_ended"], params).fetchone() == (True,)


def changed_days(conn: Connection) -> list[int]:
    """Return the days whose roll-ups are missing or outdated, in order."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(_SQL["list_changed_days"]).fetchall()


def sum_up(conn: Connection, days: Sequence[int]) -> None:
    """Make the roll-ups of some days, which are in order, in a transaction of their own."""
    conn.execute(_SQL["lock_rollups"])
    params: dict[str, object] = {
        "days": list(days),
        "blocks": sorted({day // _BLOCK_DAYS * _BLOCK_DAYS for day in days}),
        "values": [of.value for of in HistogramOf],
    }
    conn.execute(_SQL["clear_days"], params)
    values = {of.name.lower(): _PARTS[of.name.lower()] for of in HistogramOf}
    sql = queries.fill(_SQL["sum_up_days"], hosts=_PARTS["by_host"], **values)
    failures = f"{{{','.join(sorted(FAILURES))}}}"
    conn.execute(sql, {**params, "bounds": BOUNDS, "failures": failures, "now": 0})
    conn.execute(_SQL["sum_up_blocks"], params)
