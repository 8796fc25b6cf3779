"""Statistics of the jobs that ran within a range of time: what is asked, and what is found."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from ccapi.model.job import JobFilter, Range


class GroupBy(StrEnum):
    """What jobs can be counted by."""

    CLUSTER = "cluster"
    STATE = "state"
    USER = "user"
    PROJECT = "project"
    PARTITION = "partition"


@dataclass(frozen=True, kw_only=True)
class StatisticsQuery:
    """Which jobs are counted within `time`, and what is shown of them.

    Running jobs count until `jobs.now`. `step` is the length between points of the time
    line in seconds, None where it may be chosen.
    """

    jobs: JobFilter
    time: Range
    group_by: frozenset[GroupBy]
    most_jobs_first: bool
    limit: int
    with_timeline: bool
    step: int | None = None


class Points(NamedTuple):
    """The points of a time line: `number` of them, `step` seconds apart, from `first` on."""

    first: int
    step: int
    number: int


class Group(NamedTuple):
    """Jobs that are alike in what they are counted by; "" is a partition that was not given."""

    alike: dict[str, str]
    num_jobs: int
    node_seconds: float


class Point(NamedTuple):
    """How many jobs ran at a time, and on how many nodes."""

    time: int
    num_jobs: int
    num_nodes: int


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What was found; the totals and `num_groups` are of all groups, shown or not."""

    num_jobs: int
    node_seconds: float
    num_groups: int
    groups: list[Group]
    step: int | None
    timeline: list[Point]
