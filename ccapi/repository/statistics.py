"""Count the jobs that ran within a time range: sql/queries/statistics.sql."""

from collections import Counter
from dataclasses import dataclass, field

from psycopg.rows import dict_row

from ccapi.db import queries
from ccapi.db.pool import Connection
from ccapi.model.statistics import Group, GroupBy, Points, StatisticsQuery
from ccapi.repository.job_filter import conditions_of
from ccapi.repository.job_list import timeout_as_too_slow

_SQL = queries.load("statistics")
_COLUMNS = {GroupBy.USER: "user_name"}


@dataclass(kw_only=True)
class StatisticsResult:
    """The groups, the totals of all groups, and the changes along the timeline.

    `job_delta` and `node_delta` say, by point number, how many more jobs and nodes there are
    than at the point before; they are negative where more jobs ended than started.
    """

    num_jobs: int = 0
    node_seconds: float = 0.0
    num_groups: int = 0
    groups: list[Group] = field(default_factory=list)
    job_delta: Counter[int] = field(default_factory=Counter)
    node_delta: Counter[int] = field(default_factory=Counter)


def compute(conn: Connection, query: StatisticsQuery, points: Points) -> StatisticsResult:
    """Count the jobs of a query; raises TooSlow."""
    with timeout_as_too_slow(), conn.cursor(row_factory=dict_row) as cursor:
        statement = statistics_statement(conn, query, points)
        rows = cursor.execute(*statement, prepare=False).fetchall()
    result = StatisticsResult()
    for row in rows:
        if row["kind"] == "group":
            key = {by.value: row[_COLUMNS.get(by, by.value)] for by in GroupBy}
            key = {name: value for name, value in key.items() if value is not None}
            result.groups.append(Group(key, row["num_jobs"], row["node_seconds"]))
            result.num_groups = row["num_groups"]
            result.num_jobs = row["all_jobs"]
            result.node_seconds = row["all_node_seconds"]
        else:
            sign = 1 if row["kind"] == "start" else -1
            result.job_delta[row["point"]] += sign * row["num_jobs"]
            result.node_delta[row["point"]] += sign * row["num_nodes"]
    return result


def statistics_statement(
    conn: Connection, query: StatisticsQuery, points: Points
) -> tuple[str, dict[str, object]]:
    """Return the statement of a query, and its parameters."""
    conditions = conditions_of(conn, query.jobs, in_range=True)
    return queries.fill(_SQL["job_statistics"], conditions=conditions.sql), {
        **conditions.params,
        **{f"by_{name}": name in query.group_by for name in GroupBy},
        "range_from": query.time.lower,
        "range_to": query.time.upper,
        "range_first_point": points.first,
        "step": points.step,
        "num_points": points.number,
        "sort_by_num_jobs": query.sort_by_num_jobs,
        "limit": query.limit,
    }
