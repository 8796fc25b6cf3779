"""Statistics of the jobs that ran within a time range: the query and its result."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from ccapi.model.job import FAILURES, JobFilter, JobState, Range

DAY_SECONDS = 86_400


class GroupBy(StrEnum):
    """What jobs are grouped by; a job may be in the groups of several hosts or days."""

    CLUSTER = "cluster"
    STATE = "state"
    USER = "user"
    PROJECT = "project"
    PARTITION = "partition"
    SUB_CLUSTER = "sub-cluster"
    ARRAY = "array"
    NAME = "name"
    HOST = "host"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


PERIODS = frozenset((GroupBy.DAY, GroupBy.WEEK, GroupBy.MONTH))


class GroupOrder(StrEnum):
    """What groups are sorted by, the largest first; KEY is their own order."""

    NODE_HOURS = "node-hours"
    NUM_JOBS = "num-jobs"
    CORE_HOURS = "core-hours"
    GPU_HOURS = "gpu-hours"
    KEY = "group"


class HistogramOf(StrEnum):
    """A value of jobs that has a histogram."""

    DURATION = "duration"
    NUM_NODES = "num-nodes"
    NUM_ACC = "num-acc"
    WAIT = "wait"
    WALLTIME_USED = "walltime-used"


@dataclass(frozen=True, kw_only=True)
class StatisticsQuery:
    """Which jobs to count within `time`, and how to present them.

    Running jobs count until `jobs.now`. `step` is the time between points of the timeline in
    seconds; None lets the service choose it.
    """

    jobs: JobFilter
    time: Range
    group_by: frozenset[GroupBy]
    order: GroupOrder = GroupOrder.NODE_HOURS
    limit: int
    with_timeline: bool
    step: int | None = None
    with_waits: bool = False
    with_end_states: bool = False
    with_distinct: bool = False
    histograms: tuple[HistogramOf, ...] = ()


class Points(NamedTuple):
    """The points of a timeline: `number` of them, `step` seconds apart, from `first` on."""

    first: int
    step: int
    number: int


class Days(NamedTuple):
    """Whole days (UTC) from `first` up to `end`, excluded: numbers since 1970-01-01."""

    first: int
    end: int

    @property
    def seconds(self) -> int:
        """Return their length in seconds."""
        return (self.end - self.first) * DAY_SECONDS


class Waits(NamedTuple):
    """How long jobs waited in the queue: of 50, 90 and 99 percent, at most so many seconds."""

    median: int
    p90: int
    p99: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What some jobs used; `states` has their number by state, if requested.

    `waits` is None unless it is requested and some job's wait is known.
    """

    num_jobs: int = 0
    node_seconds: float = 0
    core_seconds: float = 0
    gpu_seconds: float = 0
    waits: Waits | None = None
    states: dict[JobState, int] | None = None

    @property
    def failure_rate(self) -> float | None:
        """Return the share of failures among the finished jobs; None without a finished job."""
        finished = {s: n for s, n in (self.states or {}).items() if s is not JobState.RUNNING}
        failures = sum(number for state, number in finished.items() if state in FAILURES)
        return failures / sum(finished.values()) if finished else None


class Group(NamedTuple):
    """Jobs with the same key; "" stands for a value that was not reported."""

    key: dict[str, str]
    sums: Sums

    @property
    def num_jobs(self) -> int:
        """Return the number of jobs."""
        return self.sums.num_jobs

    @property
    def node_seconds(self) -> float:
        """Return their node-seconds."""
        return self.sums.node_seconds


class Point(NamedTuple):
    """How many jobs ran at a time, and on how many nodes, cores and GPUs."""

    time: int
    num_jobs: int
    num_nodes: int
    num_cores: int
    num_gpus: int


class Distinct(NamedTuple):
    """Nodes, cores and GPUs, where one that several jobs share counts once."""

    nodes: float
    cores: float
    gpus: float


class Bin(NamedTuple):
    """The number of jobs with a value of at least `lower` and less than `upper`."""

    lower: int
    upper: int
    num_jobs: int


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """The result; totals and `num_groups` include the groups beyond the limit."""

    total: Sums
    num_groups: int
    groups: list[Group]
    step: int | None
    timeline: list[Point]
    histograms: dict[HistogramOf, list[Bin]]
    distinct: Distinct | None = None
    distinct_seconds: Distinct | None = None
    distinct_timeline: list[Distinct] = field(default_factory=list)

    @property
    def num_jobs(self) -> int:
        """Return the number of all jobs."""
        return self.total.num_jobs

    @property
    def node_seconds(self) -> float:
        """Return the node-seconds of all jobs."""
        return self.total.node_seconds
