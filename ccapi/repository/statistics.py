"""Count the jobs that ran within a time range: sql/queries/statistics.sql."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from psycopg.rows import dict_row

from ccapi.db import queries
from ccapi.db.pool import Connection
from ccapi.model.job import JobState
from ccapi.model.statistics import (
    PERIODS,
    Bin,
    Days,
    Group,
    GroupBy,
    HistogramOf,
    Points,
    StatisticsQuery,
    Sums,
    Waits,
)
from ccapi.model.usage import NEVER, DistinctUsage, Run
from ccapi.repository import rollups
from ccapi.repository.job_filter import conditions_of
from ccapi.repository.job_list import timeout_as_too_slow
from ccapi.repository.rollups import BOUNDS

_SQL = queries.load("statistics")
_PARTS = queries.parts("job_groups")
_COLUMNS = {
    GroupBy.USER: "user_name",
    GroupBy.SUB_CLUSTER: "sub_cluster",
    GroupBy.ARRAY: "array_job_id",
    GroupBy.NAME: "job_name",
    **dict.fromkeys(PERIODS, "period"),
}
_UNITS = ("job", "node", "core", "gpu")
_PERIOD_FORMATS = {
    GroupBy.DAY: "YYYY-MM-DD",
    GroupBy.WEEK: 'IYYY-"W"IW',
    GroupBy.MONTH: "YYYY-MM",
}


@dataclass(kw_only=True)
class StatisticsResult:
    """The groups, the totals of all groups, and the changes along the timeline.

    The deltas say, by point number, how many more jobs, nodes, cores and GPUs there are than at
    the point before; they are negative where more jobs ended than started.
    """

    total: Sums = field(default_factory=Sums)
    num_groups: int = 0
    groups: list[Group] = field(default_factory=list)
    job_delta: Counter[int] = field(default_factory=Counter)
    node_delta: Counter[int] = field(default_factory=Counter)
    core_delta: Counter[int] = field(default_factory=Counter)
    gpu_delta: Counter[int] = field(default_factory=Counter)


def compute(
    conn: Connection, query: StatisticsQuery, points: Points, days: Days | None
) -> StatisticsResult:
    """Count the jobs of a query, those of `days` from their roll-ups; raises TooSlow."""
    result = StatisticsResult()
    with timeout_as_too_slow(), conn.cursor(row_factory=dict_row) as cursor:
        statement = statistics_statement(conn, query, points, days)
        rows = cursor.execute(*statement, prepare=False).fetchall()
        waits = _read_waits(conn, query, days) if query.with_waits else {}
        if days and query.with_timeline:
            for point, *numbers in rollups.timeline(conn, query.jobs, points, days):
                for name, number in zip(_UNITS, numbers, strict=True):
                    getattr(result, f"{name}_delta")[point] += number
    for row in rows:
        if row["kind"] == "group":
            key = _key(row, query)
            sums = replace(_sums(row), waits=waits.get(tuple(key.values())))
            result.groups.append(Group(key, sums))
            result.num_groups = row["num_groups"]
        elif row["kind"] == "total":
            # Further rows of a job in several groups: they share its time, but are not jobs.
            sums = _sums(row)
            result.total = replace(
                sums if row["is_first"] else result.total,
                node_seconds=sums.node_seconds + result.total.node_seconds,
                core_seconds=sums.core_seconds + result.total.core_seconds,
                gpu_seconds=sums.gpu_seconds + result.total.gpu_seconds,
                waits=waits.get(None),
            )
        else:
            sign = 1 if row["kind"] == "start" else -1
            for name in _UNITS:
                getattr(result, f"{name}_delta")[row["point"]] += sign * row[f"num_{name}s"]
    return result


def _sums(row: Mapping[str, Any]) -> Sums:
    counts = zip(JobState, row["end_states"] or (), strict=row["end_states"] is not None)
    return Sums(
        num_jobs=row["num_jobs"],
        node_seconds=row["node_seconds"],
        core_seconds=row["core_seconds"],
        gpu_seconds=row["gpu_seconds"],
        states=(
            {state: number for state, number in counts if number}
            if row["end_states"] is not None
            else None
        ),
    )


def statistics_statement(
    conn: Connection, query: StatisticsQuery, points: Points, days: Days | None = None
) -> tuple[str, dict[str, object]]:
    """Return the statement of a query, and its parameters."""
    has_points = query.with_timeline
    sql, params = _fill(
        conn,
        _SQL["job_statistics"],
        query,
        days,
        rollups=_PARTS["period_rollups" if query.group_by & PERIODS else "rollups"] if days else "",
        point_kinds=_PARTS["point_kinds"] if has_points else "",
        point_sets=_PARTS["point_sets"] if has_points else "",
        point=_PARTS["point" if has_points else "no_point"],
        end_states=_PARTS["end_states" if query.with_end_states else "no_end_states"],
    )
    return sql, {
        **params,
        "range_first_point": points.first,
        "step": points.step,
        "num_points": points.number,
        "sort": query.order.value,
        "limit": query.limit,
    }


def _read_waits(
    conn: Connection, query: StatisticsQuery, days: Days | None
) -> dict[tuple[str, ...] | None, Waits]:
    """Return how long the jobs of each group waited, and those of all groups under None."""
    rollup_part = _PARTS["wait_rollups"] if days else ""
    statement = _fill(conn, _SQL["job_waits"], query, days, rollups=rollup_part)
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(*statement, prepare=False).fetchall()
    return {
        None if row["is_total"] else tuple(_key(row, query).values()): Waits(*row["waits"])
        for row in rows
    }


def _key(row: Mapping[str, Any], query: StatisticsQuery) -> dict[str, str]:
    return {by.value: row[_COLUMNS.get(by, by.value)] for by in GroupBy if by in query.group_by}


def _fill(
    conn: Connection, sql: str, query: StatisticsQuery, days: Days | None, **parts: str
) -> tuple[str, dict[str, object]]:
    """Return a statement that has the conditions and groups of a query, and its parameters."""
    conditions = conditions_of(conn, query.jobs, in_range=True)
    [period] = PERIODS & query.group_by or [None]
    sql = queries.fill(
        sql,
        conditions=conditions.sql,
        days=_PARTS["days"],
        rollup_conditions=rollups.conditions_of(query.jobs).sql,
        hosts=_PARTS["by_host" if GroupBy.HOST in query.group_by else "not_by_host"],
        periods=_PARTS["by_period" if period else "not_by_period"],
        **parts,
    )
    return sql, {
        **conditions.params,
        **{f"by_{by.name.lower()}": by in query.group_by for by in GroupBy},
        "period": period and period.value,
        "period_format": period and _PERIOD_FORMATS[period],
        **rollups.parts_of(query.time, days),
    }


def usage(conn: Connection, query: StatisticsQuery, points: Points) -> DistinctUsage:
    """Read which nodes, cores and GPUs the jobs used, one job at a time; raises TooSlow."""
    conditions = conditions_of(conn, query.jobs, in_range=True)
    sql = queries.fill(_SQL["list_runs"], conditions=conditions.sql)
    time = rollups.parts_of(query.time, None)
    result = DistinctUsage(query.time, points, query.jobs.now)
    # A transaction, because only in one does a pooler's connection have a time limit.
    with timeout_as_too_slow(), conn.transaction(), conn.cursor() as cursor:
        for cluster, resources, start, stop in cursor.stream(sql, {**conditions.params, **time}):
            run = Run(start, NEVER if stop is None else stop)
            result.add(cluster, orjson.loads(resources), run)
    return result


def histogram(
    conn: Connection, query: StatisticsQuery, of: HistogramOf, days: Days | None
) -> list[Bin]:
    """Count the jobs by bins of a value, from the first bin with a job to the last."""
    conditions = conditions_of(conn, query.jobs, in_range=True)
    value = _PARTS[of.name.lower()]
    sql = queries.fill(_SQL["job_histogram"], conditions=conditions.sql, value=value)
    params = {
        **conditions.params,
        **rollups.parts_of(query.time, days),
        "bounds": BOUNDS,
    }
    counts: Counter[int] = Counter()
    with timeout_as_too_slow():
        counts.update(dict(conn.execute(sql, params, prepare=False).fetchall()))
        if days:
            counts.update(dict(rollups.histogram(conn, query.jobs, of, days)))
    numbers = range(min(counts, default=1), max(counts, default=0) + 1)
    return [Bin(BOUNDS[n - 1], BOUNDS[n], counts[n]) for n in numbers]
