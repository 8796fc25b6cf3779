"""Plausible jobs for `ccapi demo`: an invented cluster, invented users, a year of work."""

from bisect import bisect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Any, Generic, NamedTuple, TypeVar

from ccapi.model.job import FINAL_STATES, JobState, MonitoringStatus, NewJob, Tag

CLUSTER = "demo"
YEAR_SECONDS = 365 * 86_400
MAX_RUNNING = 250
_RUNNING_FRACTION = 0.02
_FIRST_JOB_ID = 1_000_000
_LAST_START_AGE_SECONDS = 900  # of the stopped jobs
_MAX_TASK_DELAY_SECONDS = 30  # between the starts of an array's tasks
_HWTHREADS = 72
_ACCELERATORS = ("00000000:0E:00.0", "00000000:13:00.0", "00000000:49:00.0", "00000000:4F:00.0")
_CONSONANTS = "bcdfghjklmnpqrstvwxz"  # four of them are not a word
_PROJECTS = 60
_MAX_MEMBERS = 8
_PROGRAMS = ("gmx_mpi", "lmp", "vasp_std", "cp2k.psmp", "simpleFoam", "namd3", "python3", "a.out")
_TASK_NAMES = ("relax", "equil", "prod", "scan", "train", "test", "restart", "post")
_TAGS = (
    Tag("bottleneck", "memory bandwidth"),
    Tag("bottleneck", "load imbalance"),
    Tag("pattern", "idle nodes"),
    Tag("scaling", "strong"),
    Tag("scaling", "weak"),
    Tag("support", "asked for advice"),
)
T = TypeVar("T")


class _Weighted(Generic[T]):
    """Items with weights, for random choices."""

    def __init__(self, weights: Mapping[T, float]) -> None:
        self._items = list(weights)
        self._cumulative = list(accumulate(weights.values()))

    def choose(self, rng: Random) -> T:
        """Choose an item at random, by weight."""
        return rng.choices(self._items, cum_weights=self._cumulative)[0]


_STATE_WEIGHTS = {
    JobState.COMPLETED: 780,
    JobState.FAILED: 80,
    JobState.CANCELLED: 60,
    JobState.TIMEOUT: 50,
    JobState.OUT_OF_MEMORY: 15,
}
_STATES = _Weighted({state: _STATE_WEIGHTS.get(state, 8) for state in FINAL_STATES})
# The fraction of its walltime that a job runs is a random number to this power.
_RUNTIME_POWERS = {JobState.TIMEOUT: 0, JobState.OUT_OF_MEMORY: 4, JobState.FAILED: 6}
_DEFAULT_RUNTIME_POWER = 2
_WALLTIME_HOURS = _Weighted({1: 15, 4: 10, 6: 10, 12: 15, 24: 50})


class _Metric(NamedTuple):
    """A metric of a node, and its upper limit."""

    name: str
    unit: str
    limit: float


_CPU_METRICS = (
    _Metric("cpu_load", "", _HWTHREADS),
    _Metric("cpu_user", "", 100),
    _Metric("flops_any", "GF/s", 2600),
    _Metric("mem_bw", "GB/s", 340),
    _Metric("mem_used", "GB", 240),
    _Metric("ipc", "IPC", 3),
    _Metric("cpu_power", "W", 500),
    _Metric("net_bw", "GB/s", 12),
)
_GPU_METRICS = (
    *_CPU_METRICS,
    _Metric("acc_utilization", "", 100),
    _Metric("acc_mem_used", "GB", 40),
    _Metric("acc_power", "W", 400),
)


class _SubCluster:
    """Nodes of one type, named by rack and slot: f0101 is the first of rack 1."""

    def __init__(self, name: str, prefix: str, racks: int, slots: int) -> None:
        self.name = name
        self._hosts = [
            f"{prefix}{rack:02}{slot:02}"
            for rack in range(1, racks + 1)
            for slot in range(1, slots + 1)
        ]
        self._next = 0

    def allocate(self, number: int) -> list[str]:
        """Return adjacent nodes in turn, so that jobs at the same time share none."""
        if self._next + number > len(self._hosts):
            self._next = 0
        first, self._next = self._next, self._next + number
        return self._hosts[first : self._next]


class _Partition(NamedTuple):
    """A queue for nodes of one type; `accelerators` is how many of a node a job uses."""

    name: str
    sub_cluster: _SubCluster
    num_nodes: _Weighted[int]
    accelerators: _Weighted[int] | None = None

    def statistics(self, rng: Random) -> dict[str, dict[str, Any]]:
        """Return the statistics of a job; one that uses its nodes well does so for each metric."""
        usage = 0.1 + 0.85 * rng.random()
        statistics: dict[str, dict[str, Any]] = {}
        for metric in _GPU_METRICS if self.accelerators else _CPU_METRICS:
            average = metric.limit * usage * (0.6 + 0.4 * rng.random())
            statistics[metric.name] = {
                "unit": metric.unit,
                "avg": round(average, 2),
                "min": round(average * rng.random(), 2),
                "max": round(average + (metric.limit - average) * rng.random(), 2),
            }
        return statistics


def _partitions() -> _Weighted[_Partition]:
    """Return the cluster's partitions, with all nodes free."""
    main = _SubCluster("main", "f", racks=10, slots=88)
    bigmem = _SubCluster("bigmem", "m", racks=1, slots=16)
    gpu = _SubCluster("gpu", "g", racks=2, slots=38)
    few = _Weighted({2: 42, 3: 6, 4: 25, 6: 4, 8: 13, 16: 6, 32: 3, 64: 1})
    return _Weighted(
        {
            _Partition("singlenode", main, _Weighted({1: 1})): 62,
            _Partition("multinode", main, few): 25,
            _Partition("bigmem", bigmem, _Weighted({1: 9, 2: 1})): 3,
            _Partition("gpu", gpu, _Weighted({1: 9, 2: 1}), _Weighted({1: 5, 2: 2, 4: 3})): 10,
        }
    )


class _User(NamedTuple):
    name: str
    project: str


@dataclass(slots=True)
class _Request:
    """What a user submits, as one job or as an array of `tasks` jobs; walltime in seconds."""

    user: _User
    partition: _Partition
    num_nodes: int
    accelerators: int
    walltime: int
    name: str
    program: str
    tasks: int

    @property
    def hwthreads(self) -> int:
        """Return the number of hardware threads on each node."""
        if not self.accelerators:
            return _HWTHREADS
        return _HWTHREADS * self.accelerators // len(_ACCELERATORS)

    def meta_data(self, job_id: int) -> dict[str, str]:
        """Return the metadata of one of its jobs."""
        script = (
            f"#!/bin/bash -l\n#SBATCH --job-name={self.name}\n"
            f"#SBATCH --partition={self.partition.name}\n#SBATCH --nodes={self.num_nodes}\n"
            f"#SBATCH --time={self.walltime // 3600}:00:00\n\n"
            f"module load {self.program.partition('_')[0]}\n"
            f'cd "$SLURM_SUBMIT_DIR"\nsrun {self.program} {self.name}.in\n'
        )
        slurm_info = (
            f"JobId={job_id} JobName={self.name}\n"
            f"   UserId={self.user.name} Account={self.user.project}\n"
            f"   Partition={self.partition.name} NumNodes={self.num_nodes} "
            f"TimeLimit={self.walltime // 3600:02}:00:00\n"
        )
        return {"jobName": self.name, "jobScript": script, "slurmInfo": slurm_info}

    def allocate(self) -> list[dict[str, Any]]:
        """Allocate the nodes of one job."""
        node: dict[str, Any] = {"hwthreads": list(range(self.hwthreads))}
        if self.accelerators:
            node["accelerators"] = list(_ACCELERATORS[: self.accelerators])
        hosts = self.partition.sub_cluster.allocate(self.num_nodes)
        return [{"hostname": host, **node} for host in hosts]


class _Task(NamedTuple):
    """One job of a request."""

    request: _Request
    job_id: int
    array_job_id: int | None

    @property
    def is_first(self) -> bool:
        """Return whether it is the first task of its request."""
        return self.array_job_id in {None, self.job_id}


def _tasks(rng: Random, last_job_id: int) -> Iterator[_Task]:
    """Submit requests without end; job ids grow, with gaps as if some were withdrawn.

    A few of the users submit most of the requests.
    """
    projects = {"".join(rng.choices(_CONSONANTS, k=4)): None for _ in range(_PROJECTS)}
    members = [
        _User(f"{project}{100 + number}h", project)
        for project in projects
        for number in range(rng.randint(1, _MAX_MEMBERS))
    ]
    rng.shuffle(members)
    users = _Weighted({member: 1 / rank for rank, member in enumerate(members, 1)})
    partitions = _partitions()
    job_id = last_job_id
    while True:
        user, partition = users.choose(rng), partitions.choose(rng)
        num_nodes = partition.num_nodes.choose(rng)
        accelerators = 0
        if partition.accelerators:
            whole_nodes = num_nodes > 1
            accelerators = len(_ACCELERATORS) if whole_nodes else partition.accelerators.choose(rng)
        request = _Request(
            user=user,
            partition=partition,
            num_nodes=num_nodes,
            accelerators=accelerators,
            walltime=_WALLTIME_HOURS.choose(rng) * 3600,
            name=f"{rng.choice(_TASK_NAMES)}_{rng.randrange(1000):03}",
            program=rng.choice(_PROGRAMS),
            tasks=rng.randint(3, 24) if rng.random() < 0.02 else 1,
        )
        first = job_id + rng.randint(1, 3)
        for job_id in range(first, first + request.tasks):
            yield _Task(request, job_id, first if request.tasks > 1 else None)


def jobs(count: int, *, now: int, after_job_id: int = 0, seed: int = 1) -> Iterator[NewJob]:
    """Generate jobs of the year before `now` (epoch seconds), one by one, in constant memory.

    The same arguments yield the same jobs. Job ids are unique, and larger than `after_job_id`.
    Every state occurs among 350 jobs or more; running jobs have walltime left.
    """
    rng = Random(f"{seed} {after_job_id}")  # noqa: S311 - nothing is secret here
    tasks = _tasks(rng, after_job_id or _FIRST_JOB_ID)
    running = min(MAX_RUNNING, round(count * _RUNNING_FRACTION))
    start_time = 0
    for number, arrival in enumerate(_arrivals(rng, count - running, now)):
        task = next(tasks)
        soon = start_time + rng.randrange(_MAX_TASK_DELAY_SECONDS)
        start_time = arrival if task.is_first else min(arrival, soon)
        # The first jobs make sure that each state occurs.
        state = FINAL_STATES[number] if number < len(FINAL_STATES) else _STATES.choose(rng)
        power = _RUNTIME_POWERS.get(state, _DEFAULT_RUNTIME_POWER)
        duration, age = int(task.request.walltime * rng.random() ** power), now - start_time
        if duration >= age:
            state = JobState.COMPLETED if state is JobState.TIMEOUT else state
            duration = int(age * rng.random())
        job = _job(task, start_time)
        job.monitoring_status = MonitoringStatus.DISABLED
        job.statistics = task.request.partition.statistics(rng)
        job.tags = rng.sample(_TAGS, rng.randint(1, 2)) if rng.random() < 0.08 else []
        job.job_state, job.stop_time = state.value, start_time + duration
        yield job
    for _ in range(running):
        task = next(tasks)
        yield _job(task, now - int(task.request.walltime * rng.uniform(0.01, 0.95)))


def _job(task: _Task, start_time: int) -> NewJob:
    request = task.request
    return NewJob(
        job_id=task.job_id,
        user_name=request.user.name,
        project=request.user.project,
        cluster=CLUSTER,
        sub_cluster=request.partition.sub_cluster.name,
        partition=request.partition.name,
        array_job_id=task.array_job_id,
        start_time=start_time,
        walltime=request.walltime,
        resources=request.allocate(),
        num_nodes=request.num_nodes,
        num_hwthreads=request.num_nodes * request.hwthreads,
        num_acc=request.num_nodes * request.accelerators or None,
        exclusive=0 if 0 < request.accelerators < len(_ACCELERATORS) else 1,
        smt=1,
        meta_data=request.meta_data(task.job_id),
    )


def _arrivals(rng: Random, count: int, now: int) -> Iterator[int]:
    """Yield the start times of a year's stopped jobs in order, most in working hours."""
    first, last = now - YEAR_SECONDS, now - _LAST_START_AGE_SECONDS
    hours = range(first, last, 3600)

    def rate(hour: int) -> float:
        """Return how many jobs start in an hour, in arbitrary units."""
        days, hour_of_day = divmod(hour // 3600, 24)
        if (days + 3) % 7 >= 5:  # a weekend, as the epoch began on a Thursday
            return 1
        return 6 if 8 <= hour_of_day < 18 else 2

    cumulative = [0.0, *accumulate(map(rate, hours))]
    reached = 0.0
    for left in range(count, 0, -1):
        # The next of `left` sorted random numbers from `reached` to 1, without sorting them.
        reached += (1 - reached) * (1 - (1 - rng.random()) ** (1 / left))
        position = min(reached, 1 - 1e-12) * cumulative[-1]
        hour = bisect(cumulative, position) - 1
        fraction = (position - cumulative[hour]) / (cumulative[hour + 1] - cumulative[hour])
        yield min(last, hours[hour] + int(3600 * fraction))
