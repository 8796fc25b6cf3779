"""A job: as a batch system reports it, and as the registry stores it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple

from ccapi.model import rules
from ccapi.model.rules import Rule, count_hosts
from ccapi.model.token import ALL_JOBS, Scope


class JobState(StrEnum):
    """The state of a job; all but RUNNING are final."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    STOPPED = "stopped"
    TIMEOUT = "timeout"
    PREEMPTED = "preempted"
    OUT_OF_MEMORY = "out_of_memory"
    NODE_FAIL = "node_fail"
    BOOT_FAIL = "boot_fail"
    DEADLINE = "deadline"


# Ends that a node may cause. A timeout, a preemption and a cancellation are decisions.
FAILURES = frozenset(
    (JobState.FAILED, JobState.OUT_OF_MEMORY, JobState.NODE_FAIL, JobState.BOOT_FAIL)
)
FINAL_STATES = tuple(state for state in JobState if state is not JobState.RUNNING)
# Slurm's final states. The sender in deploy/slurm has a copy, and a test proves the two equal.
SLURM_STATES = {
    "COMPLETED": JobState.COMPLETED,
    "FAILED": JobState.FAILED,
    "NODE_FAIL": JobState.NODE_FAIL,
    "BOOT_FAIL": JobState.BOOT_FAIL,
    "LAUNCH_FAILED": JobState.FAILED,
    "RECONFIG_FAIL": JobState.FAILED,
    "CANCELLED": JobState.CANCELLED,
    "REVOKED": JobState.CANCELLED,
    "TIMEOUT": JobState.TIMEOUT,
    "DEADLINE": JobState.DEADLINE,
    "PREEMPTED": JobState.PREEMPTED,
    "OUT_OF_MEMORY": JobState.OUT_OF_MEMORY,
    # Slurm starts the job again, which is another job here.
    "REQUEUED": JobState.STOPPED,
}
# The values of `exclusive`, and those of `shared`, its name in newer versions of the contract.
SHARED = {0: "multi_user", 1: "none", 2: "single_user"}


class MonitoringStatus(IntEnum):
    """The state of a job's monitoring and archiving."""

    DISABLED = 0
    RUNNING_OR_ARCHIVING = 1
    ARCHIVING_FAILED = 2
    ARCHIVED = 3


class Tag(NamedTuple):
    """A label of a job; jobs with the same type and name share one tag."""

    type: str
    name: str


@dataclass(slots=True, kw_only=True)
class NewJob:
    """A job to register: a start, unless `job_state` is final.

    Times are epoch seconds; None is "not given". `resources` are mappings in the contract's
    spelling: hostname, hwthreads, accelerators, configuration.
    """

    job_id: int
    user_name: str
    cluster: str
    start_time: int
    resources: list[dict[str, Any]]
    project: str = ""
    sub_cluster: str = ""
    partition: str | None = None
    array_job_id: int | None = None
    num_nodes: int | None = None
    num_hwthreads: int | None = None
    num_acc: int | None = None
    exclusive: int = 1
    smt: int | None = None
    walltime: int | None = None
    submit_time: int | None = None
    requested_memory: int | None = None
    energy: float | None = None
    monitoring_status: int = MonitoringStatus.RUNNING_OR_ARCHIVING
    meta_data: dict[str, str] | None = None
    statistics: dict[str, dict[str, Any]] | None = None
    footprint: dict[str, float] | None = None
    energy_footprint: dict[str, float] | None = None
    tags: list[Tag] = field(default_factory=list)
    job_state: str = JobState.RUNNING.value
    stop_time: int | None = None

    def __post_init__(self) -> None:
        """Check the rules that concern more than one field; raises InvalidInput."""
        self.num_nodes = count_hosts(self.hostnames, self.num_nodes)

    @property
    def hostnames(self) -> list[str]:
        """Return the hosts in the order in which they were reported."""
        return [resource["hostname"] for resource in self.resources]


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """What a running job uses from some time on; the fields are those of NewJob."""

    resources: list[dict[str, Any]]
    num_nodes: int
    num_hwthreads: int | None = None
    num_acc: int | None = None

    @property
    def hostnames(self) -> list[str]:
        """Return the hosts in the order in which they were reported."""
        return [resource["hostname"] for resource in self.resources]


@dataclass(slots=True)
class Job:
    """A job as the database or the archive stores it; times are epoch seconds.

    `resources`, `meta_data`, `statistics`, the footprints and `tags` are JSON texts, because
    nearly every reader only passes them on. A job from the archive has no database id, nor
    have its tags.
    """

    id: int | None
    job_id: int
    user_name: str
    project: str
    cluster: str
    sub_cluster: str
    partition: str | None
    array_job_id: int | None
    num_nodes: int
    num_hwthreads: int | None
    num_acc: int | None
    exclusive: int
    smt: int | None
    walltime: int | None
    submit_time: int | None
    requested_memory: int | None
    energy: float | None
    start_time: int
    stop_time: int | None
    job_state: str
    monitoring_status: int
    resources: str
    statistics: str | None
    footprint: str | None
    energy_footprint: str | None
    tags: str
    meta_data: str | None
    # Only of a job in a list: what the list is sorted by.
    sort_key: int | None = None
    # Only of a job in a list: whether it is so large that its large columns are not read yet.
    is_partial: bool = False
    # Only of a job in a list of a page: metaData.jobName.
    name: str | None = None

    @property
    def shared(self) -> str:
        """Return `exclusive` in the words of newer versions of the contract."""
        return SHARED[self.exclusive]

    @property
    def is_running(self) -> bool:
        """Return whether the job has not been stopped."""
        return self.job_state == JobState.RUNNING

    @property
    def is_archived(self) -> bool:
        """Return whether the finished job is in the archive."""
        return not self.is_running and self.monitoring_status == MonitoringStatus.ARCHIVED

    def duration(self, now: int) -> int:
        """Return the run time in seconds until the stop or, while running, `now`.

        At least 1, the contract's minimum: a quarter of very short jobs start and stop
        within the same second.
        """
        return max(1, (now if self.stop_time is None else self.stop_time) - self.start_time)

    @property
    def key(self) -> "JobKey":
        """Return what identifies the run outside the database."""
        return JobKey(self.cluster, self.job_id, self.start_time)

    @property
    def position(self) -> "ListPosition":
        """Return the position in the list from which the job comes."""
        assert self.id is not None
        assert self.sort_key is not None
        return ListPosition(self.sort_key, self.id)


@dataclass(frozen=True, slots=True)
class JobField:
    """A field of JobMeta: its name in JSON, and its attribute of Job and NewJob."""

    name: str
    attribute: str


@dataclass(frozen=True, slots=True)
class PlainField(JobField):
    """A field that is a number or a string; None, unless it is required or has a default."""

    rule: Rule
    is_required: bool = False
    default: int | str | None = None


# In the order of a CSV list's columns.
JOB_META_FIELDS: tuple[JobField, ...] = (
    JobField("id", "id"),
    PlainField("jobId", "job_id", rules.JOB_ID, is_required=True),
    PlainField("user", "user_name", rules.USER, is_required=True),
    PlainField("project", "project", rules.PROJECT, default=""),
    PlainField("cluster", "cluster", rules.CLUSTER, is_required=True),
    PlainField("subCluster", "sub_cluster", rules.SUB_CLUSTER, default=""),
    PlainField("partition", "partition", rules.PARTITION),
    PlainField("arrayJobId", "array_job_id", rules.COUNT),
    PlainField("numNodes", "num_nodes", rules.COUNT, is_required=True),
    PlainField("numHwthreads", "num_hwthreads", rules.COUNT),
    PlainField("numAcc", "num_acc", rules.COUNT),
    PlainField("exclusive", "exclusive", rules.EXCLUSIVE, default=1),
    JobField("shared", "shared"),
    PlainField("smt", "smt", rules.COUNT),
    PlainField("jobState", "job_state", rules.TEXT, is_required=True),
    PlainField("submitTime", "submit_time", rules.EPOCH_SECOND),
    PlainField("startTime", "start_time", rules.EPOCH_SECOND, is_required=True),
    JobField("duration", "duration"),
    PlainField("walltime", "walltime", rules.COUNT),
    PlainField("requestedMemory", "requested_memory", rules.COUNT),
    PlainField("energy", "energy", rules.NUMBER),
    JobField("monitoringStatus", "monitoring_status"),
    JobField("resources", "resources"),
    JobField("tags", "tags"),
    JobField("statistics", "statistics"),
    JobField("footprint", "footprint"),
    JobField("energyFootprint", "energy_footprint"),
    JobField("metaData", "meta_data"),
)
PLAIN_FIELDS = tuple(field for field in JOB_META_FIELDS if isinstance(field, PlainField))


class JobKey(NamedTuple):
    """What identifies a run of a job outside the database."""

    cluster: str
    job_id: int
    start_time: int


class SortBy(StrEnum):
    """What a list can be sorted by."""

    START_TIME = "start-time"
    STOP_TIME = "stop-time"
    DURATION = "duration"
    NUM_NODES = "num-nodes"
    NODE_HOURS = "node-hours"
    WAIT = "wait"


class ListOrder(NamedTuple):
    """The order of a list; jobs with the same value are in the order of their ids."""

    sort_by: SortBy = SortBy.START_TIME
    is_descending: bool = True


DEFAULT_ORDER = ListOrder()


class ListPosition(NamedTuple):
    """A job's position in a list: the value that the list is sorted by, then the id."""

    key: int
    id: int


class JobSelection(NamedTuple):
    """Which job a request means; None matches every value."""

    job_id: int
    cluster: str | None = None
    start_time: int | None = None

    def __str__(self) -> str:
        """Return the selection in the contract's spelling."""
        fields = (("jobId", self.job_id), ("cluster", self.cluster), ("startTime", self.start_time))
        return ", ".join(f"{name} {value}" for name, value in fields if value is not None)


class Range(NamedTuple):
    """Values from `lower` to `upper`, both inclusive."""

    lower: int
    upper: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs a list shows; None matches every value, several values match any of them.

    A `name` is the beginning of a name, or *part*. `wait` is in seconds, `walltime_used` in
    percent. The duration of a running job ends `now`, in epoch seconds.
    """

    state: Sequence[str] | None = None
    not_state: Sequence[str] | None = None
    cluster: Sequence[str] | None = None
    sub_cluster: Sequence[str] | None = None
    partition: Sequence[str] | None = None
    not_partition: Sequence[str] | None = None
    user_name: Sequence[str] | None = None
    not_user_name: Sequence[str] | None = None
    project: Sequence[str] | None = None
    job_id: Sequence[int] | None = None
    array_job_id: Sequence[int] | None = None
    name: Sequence[str] | None = None
    host: Sequence[str] | None = None
    tag: Sequence[Tag] | None = None
    not_tag: Sequence[Tag] | None = None
    start_time: Range | None = None
    stop_time: Range | None = None
    submit_time: Range | None = None
    wait: Range | None = None
    duration: Range | None = None
    walltime_used: Range | None = None
    num_nodes: Range | None = None
    num_acc: Range | None = None
    num_hwthreads: Range | None = None
    scope: Scope = ALL_JOBS
    now: int = 0


@dataclass(slots=True, kw_only=True)
class Correction:
    """A changed end of a job, and the name of the token or command that changed it.

    Stop times are epoch seconds; None means that the job was running, or runs again.
    """

    corrected_at: datetime
    corrected_by: str
    old_state: str
    new_state: str
    old_stop_time: int | None
    new_stop_time: int | None
