"""Statistics of the jobs that ran within a time range: the query and its result."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from ccapi.model.job import JobFilter, Range


class GroupBy(StrEnum):
    """What jobs are grouped by."""

    CLUSTER = "cluster"
    STATE = "state"
    USER = "user"
    PROJECT = "project"
    PARTITION = "partition"


@dataclass(frozen=True, kw_only=True)
class StatisticsQuery:
    """Which jobs to count within `time`, and how to present them.

    Running jobs count until `jobs.now`. `step` is the time between points of the timeline in
    seconds; None lets the service choose it.
    """

    jobs: JobFilter
    time: Range
    group_by: frozenset[GroupBy]
    sort_by_num_jobs: bool
    limit: int
    with_timeline: bool
    step: int | None = None


class Points(NamedTuple):
    """The points of a timeline: `number` of them, `step` seconds apart, from `first` on."""

    first: int
    step: int
    number: int


class Group(NamedTuple):
    """Jobs with the same key; "" stands for a partition that was not reported."""

    key: dict[str, str]
    num_jobs: int
    node_seconds: float


class Point(NamedTuple):
    """How many jobs ran at a time, and on how many nodes."""

    time: int
    num_jobs: int
    num_nodes: int


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """The result; totals and `num_groups` include the groups beyond the limit."""

    num_jobs: int
    node_seconds: float
    num_groups: int
    groups: list[Group]
    step: int | None
    timeline: list[Point]
