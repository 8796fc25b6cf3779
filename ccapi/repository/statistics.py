"""Jobs counted over a range of time: sql/queries/statistics.sql."""

from collections import Counter
from dataclasses import dataclass, field

from psycopg.rows import class_row

from ccapi.model.statistics import Group, GroupBy, Points, StatisticsQuery
from ccapi.db import queries
from ccapi.db.pool import Connection
from ccapi.repository.jobs import filter_params, timeout_as_too_slow

_SQL = queries.load("statistics")


@dataclass(kw_only=True)
class StatisticsResult:
    """The groups that are shown, what all groups are together, and what a time line is made of.

    `more_jobs` and `more_nodes` are, by the number of a point, how many more run there than at
    the point before; negative where more have ended.
    """

    num_jobs: int = 0
    node_seconds: float = 0.0
    num_groups: int = 0
    groups: list[Group] = field(default_factory=list)
    job_delta: Counter[int] = field(default_factory=Counter)
    node_delta: Counter[int] = field(default_factory=Counter)


@dataclass(slots=True, kw_only=True)
class _Row:
    kind: str
    cluster: str | None
    state: str | None
    user_name: str | None
    project: str | None
    partition: str | None
    point: int | None
    num_jobs: int
    num_nodes: int
    node_seconds: float
    num_groups: int
    all_jobs: int
    all_node_seconds: float


def read(conn: Connection, question: StatisticsQuery, points: Points) -> StatisticsResult:
    """Count the jobs that a question is about; raises TooSlow."""
    figures = StatisticsResult()
    for row in _rows(conn, _parameters(conn, question, points)):
        _add(figures, row, question.group_by)
    return figures


def _rows(conn: Connection, parameters: dict[str, object]) -> list[_Row]:
    with timeout_as_too_slow(), conn.cursor(row_factory=class_row(_Row)) as cursor:
        return cursor.execute(_SQL["job_statistics"], parameters, prepare=False).fetchall()


def _parameters(conn: Connection, question: StatisticsQuery, points: Points) -> dict[str, object]:
    return {
        **filter_params(conn, question.jobs),
        **{f"by_{name}": name in question.group_by for name in GroupBy},
        "range_from": question.time.least,
        "range_to": question.time.most,
        "first_point": points.first,
        "step": points.step,
        "num_points": points.number,
        "most_jobs_first": question.most_jobs_first,
        "limit": question.limit,
    }


def _add(figures: StatisticsResult, row: _Row, group_by: frozenset[GroupBy]) -> None:
    if row.kind == "group":
        figures.groups.append(Group(_alike(row, group_by), row.num_jobs, row.node_seconds))
        figures.num_groups = row.num_groups
        figures.num_jobs = row.all_jobs
        figures.node_seconds = row.all_node_seconds
        return
    assert row.point is not None
    sign = 1 if row.kind == "begun" else -1
    figures.job_delta[row.point] += sign * row.num_jobs
    figures.node_delta[row.point] += sign * row.num_nodes


def _alike(row: _Row, group_by: frozenset[GroupBy]) -> dict[str, str]:
    names = {
        GroupBy.CLUSTER: row.cluster,
        GroupBy.STATE: row.state,
        GroupBy.USER: row.user_name,
        GroupBy.PROJECT: row.project,
        GroupBy.PARTITION: row.partition,
    }
    return {by.value: name for by, name in names.items() if by in group_by and name is not None}
