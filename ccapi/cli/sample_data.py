"""Plausible jobs for `ccapi demo`: a made-up cluster, made-up users, a year of work."""

from bisect import bisect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Any, Generic, NamedTuple, TypeVar

from ccapi.model.job import FINAL_STATES, JobState, MonitoringStatus, NewJob, Tag

CLUSTER = "demo"
YEAR_SECONDS = 365 * 86_400
MOST_RUNNING = 250
_RUNNING_SHARE = 0.02
_FIRST_JOB_ID = 1_000_000
_LATEST_STOPPED_SECONDS = 900  # how long before now the last stopped job starts
_TASK_DELAY_SECONDS = 30
_HWTHREADS = 72
_ACCELERATORS = ("00000000:0E:00.0", "00000000:13:00.0", "00000000:49:00.0", "00000000:4F:00.0")
_CONSONANTS = "bcdfghjklmnpqrstvwxz"  # four of them make no word
_PROJECTS = 60
_MOST_MEMBERS = 8
_PROGRAMS = ("gmx_mpi", "lmp", "vasp_std", "cp2k.psmp", "simpleFoam", "namd3", "python3", "a.out")
_TASKS = ("relax", "equil", "prod", "scan", "train", "test", "restart", "post")
_TAGS = (
    Tag("bottleneck", "memory bandwidth"),
    Tag("bottleneck", "load imbalance"),
    Tag("pattern", "idle nodes"),
    Tag("scaling", "strong"),
    Tag("scaling", "weak"),
    Tag("support", "asked for advice"),
)
T = TypeVar("T")


class _Lottery(Generic[T]):
    """Things to draw, and how often each comes."""

    def __init__(self, weights: Mapping[T, float]) -> None:
        self._things = list(weights)
        self._cumulative = list(accumulate(weights.values()))

    def draw(self, rng: Random) -> T:
        """Draw one; it stays in."""
        return rng.choices(self._things, cum_weights=self._cumulative)[0]


_STATES = _Lottery(
    {
        JobState.COMPLETED: 780,
        JobState.FAILED: 80,
        JobState.CANCELLED: 60,
        JobState.TIMEOUT: 50,
        JobState.OUT_OF_MEMORY: 15,
        JobState.PREEMPTED: 8,
        JobState.STOPPED: 7,
    }
)
# The share of its walltime that a job runs is a random number to this power.
_HASTE = {JobState.TIMEOUT: 0, JobState.OUT_OF_MEMORY: 4, JobState.FAILED: 6}
_USUAL_HASTE = 2
_WALLTIME_HOURS = _Lottery({1: 15, 4: 10, 6: 10, 12: 15, 24: 50})


class _Metric(NamedTuple):
    """What is measured on a node, and what it can reach at most."""

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
    """Nodes of one kind, named by rack and place: f0101 is the first of rack 1."""

    def __init__(self, name: str, prefix: str, racks: int, places: int) -> None:
        self.name = name
        self._hosts = [
            f"{prefix}{rack:02}{place:02}"
            for rack in range(1, racks + 1)
            for place in range(1, places + 1)
        ]
        self._next = 0

    def allocate(self, number: int) -> list[str]:
        """Take neighbouring nodes in turn, so that what runs at one time shares none."""
        if self._next + number > len(self._hosts):
            self._next = 0
        first, self._next = self._next, self._next + number
        return self._hosts[first : self._next]


class _Partition(NamedTuple):
    """A queue for nodes of one kind; `accelerators` says how many of a node's are wanted."""

    name: str
    sub_cluster: _SubCluster
    num_nodes: _Lottery[int]
    accelerators: _Lottery[int] | None = None

    @property
    def metrics(self) -> tuple[_Metric, ...]:
        """Return what is measured there."""
        return _GPU_METRICS if self.accelerators else _CPU_METRICS


def _partitions() -> _Lottery[_Partition]:
    """Describe the cluster, its nodes all free."""
    main = _SubCluster("main", "f", racks=10, places=88)
    bigmem = _SubCluster("bigmem", "m", racks=1, places=16)
    gpu = _SubCluster("gpu", "g", racks=2, places=38)
    few = _Lottery({2: 42, 3: 6, 4: 25, 6: 4, 8: 13, 16: 6, 32: 3, 64: 1})
    return _Lottery(
        {
            _Partition("singlenode", main, _Lottery({1: 1})): 62,
            _Partition("multinode", main, few): 25,
            _Partition("bigmem", bigmem, _Lottery({1: 9, 2: 1})): 3,
            _Partition("gpu", gpu, _Lottery({1: 9, 2: 1}), _Lottery({1: 5, 2: 2, 4: 3})): 10,
        }
    )


class _Account(NamedTuple):
    name: str
    project: str


def _accounts(rng: Random) -> _Lottery[_Account]:
    """Make the users up; few of them submit most."""
    projects = {"".join(rng.choices(_CONSONANTS, k=4)): None for _ in range(_PROJECTS)}
    members = [
        _Account(f"{project}{100 + number}h", project)
        for project in projects
        for number in range(rng.randint(1, _MOST_MEMBERS))
    ]
    rng.shuffle(members)
    return _Lottery({member: 1 / rank for rank, member in enumerate(members, 1)})


@dataclass(slots=True)
class _Request:
    """What a user submits, once or as an array of `tasks` jobs; lengths in seconds."""

    account: _Account
    partition: _Partition
    num_nodes: int
    accelerators: int
    walltime: int
    name: str
    program: str
    tasks: int

    @property
    def hwthreads(self) -> int:
        """Return how many hardware threads of each node are used."""
        if not self.accelerators:
            return _HWTHREADS
        return _HWTHREADS * self.accelerators // len(_ACCELERATORS)

    @property
    def script(self) -> str:
        """Return the job script."""
        return (
            f"#!/bin/bash -l\n#SBATCH --job-name={self.name}\n"
            f"#SBATCH --partition={self.partition.name}\n#SBATCH --nodes={self.num_nodes}\n"
            f"#SBATCH --time={self.walltime // 3600}:00:00\n\n"
            f"module load {self.program.partition('_')[0]}\n"
            f'cd "$SLURM_SUBMIT_DIR"\nsrun {self.program} {self.name}.in\n'
        )

    def resources(self) -> list[dict[str, Any]]:
        """Take the nodes for one job."""
        used: dict[str, Any] = {"hwthreads": list(range(self.hwthreads))}
        if self.accelerators:
            used["accelerators"] = list(_ACCELERATORS[: self.accelerators])
        hosts = self.partition.sub_cluster.allocate(self.num_nodes)
        return [{"hostname": host, **used} for host in hosts]


class _Task(NamedTuple):
    """One job of a request."""

    request: _Request
    job_id: int
    array_job_id: int | None

    @property
    def begins_request(self) -> bool:
        """Tell whether no task of the same request came before."""
        return self.array_job_id in {None, self.job_id}


def _tasks(rng: Random, last_job_id: int) -> Iterator[_Task]:
    """Submit requests for ever; job ids grow, with gaps for what was withdrawn."""
    accounts, partitions = _accounts(rng), _partitions()
    job_id = last_job_id
    while True:
        request = _submit(rng, accounts.draw(rng), partitions.draw(rng))
        first = job_id + rng.randint(1, 3)
        for job_id in range(first, first + request.tasks):
            yield _Task(request, job_id, first if request.tasks > 1 else None)


def _submit(rng: Random, account: _Account, partition: _Partition) -> _Request:
    num_nodes = partition.num_nodes.draw(rng)
    some = partition.accelerators
    accelerators = some.draw(rng) if some and num_nodes == 1 else len(_ACCELERATORS)
    return _Request(
        account=account,
        partition=partition,
        num_nodes=num_nodes,
        accelerators=accelerators if some else 0,
        walltime=_WALLTIME_HOURS.draw(rng) * 3600,
        name=f"{rng.choice(_TASKS)}_{rng.randrange(1000):03}",
        program=rng.choice(_PROGRAMS),
        tasks=rng.randint(3, 24) if rng.random() < 0.02 else 1,
    )


def jobs(count: int, *, now: int, after_job_id: int = 0, seed: int = 1) -> Iterator[NewJob]:
    """Make jobs of the year before `now` (epoch seconds), one by one, in constant memory.

    The same arguments make the same jobs. Job ids are larger than `after_job_id` and unique.
    Of 350 jobs or more each state has some; those that run have walltime left.
    """
    rng = Random(f"{seed} {after_job_id}")  # noqa: S311 - nothing is secret here
    tasks = _tasks(rng, after_job_id or _FIRST_JOB_ID)
    running = min(MOST_RUNNING, round(count * _RUNNING_SHARE))
    yield from _stopped(rng, tasks, count - running, now)
    for _ in range(running):
        yield _running(rng, next(tasks), now)


def _stopped(rng: Random, tasks: Iterator[_Task], count: int, now: int) -> Iterator[NewJob]:
    start_time = 0
    for number, arrival in enumerate(_arrivals(rng, count, now)):
        task = next(tasks)
        soon = start_time + rng.randrange(_TASK_DELAY_SECONDS)
        start_time = arrival if task.begins_request else min(arrival, soon)
        # The first few make sure that each state occurs.
        state = FINAL_STATES[number] if number < len(FINAL_STATES) else _STATES.draw(rng)
        state, seconds = _end(rng, state, task.request.walltime, now - start_time)
        job = _job(task, start_time)
        job.monitoring_status = MonitoringStatus.DISABLED
        job.statistics = _statistics(rng, task.request.partition.metrics)
        job.tags = rng.sample(_TAGS, rng.randint(1, 2)) if rng.random() < 0.08 else []
        job.job_state, job.stop_time = state.value, start_time + seconds
        yield job


def _running(rng: Random, task: _Task, now: int) -> NewJob:
    return _job(task, now - int(task.request.walltime * rng.uniform(0.01, 0.95)))


def _end(rng: Random, state: JobState, walltime: int, age: int) -> tuple[JobState, int]:
    """Return how and after how many seconds a job that started `age` ago ended."""
    seconds = int(walltime * rng.random() ** _HASTE.get(state, _USUAL_HASTE))
    if seconds < age:
        return state, seconds
    return (JobState.COMPLETED if state is JobState.TIMEOUT else state), int(age * rng.random())


def _job(task: _Task, start_time: int) -> NewJob:
    request = task.request
    return NewJob(
        job_id=task.job_id,
        user_name=request.account.name,
        project=request.account.project,
        cluster=CLUSTER,
        sub_cluster=request.partition.sub_cluster.name,
        partition=request.partition.name,
        array_job_id=task.array_job_id,
        start_time=start_time,
        walltime=request.walltime,
        resources=request.resources(),
        num_nodes=request.num_nodes,
        num_hwthreads=request.num_nodes * request.hwthreads,
        num_acc=request.num_nodes * request.accelerators or None,
        exclusive=0 if 0 < request.accelerators < len(_ACCELERATORS) else 1,
        smt=1,
        meta_data=_meta_data(task),
    )


def _meta_data(task: _Task) -> dict[str, str]:
    request = task.request
    slurm_info = (
        f"JobId={task.job_id} JobName={request.name}\n"
        f"   UserId={request.account.name} Account={request.account.project}\n"
        f"   Partition={request.partition.name} NumNodes={request.num_nodes} "
        f"TimeLimit={request.walltime // 3600:02}:00:00\n"
    )
    return {"jobName": request.name, "jobScript": request.script, "slurmInfo": slurm_info}


def _statistics(rng: Random, metrics: tuple[_Metric, ...]) -> dict[str, dict[str, Any]]:
    """Measure a job; one that uses its nodes well does so in every respect."""
    usage = 0.1 + 0.85 * rng.random()
    return {metric.name: _measured(rng.random, metric, usage) for metric in metrics}


def _measured(random: Callable[[], float], metric: _Metric, usage: float) -> dict[str, Any]:
    average = metric.limit * usage * (0.6 + 0.4 * random())
    return {
        "unit": metric.unit,
        "avg": round(average, 2),
        "min": round(average * random(), 2),
        "max": round(average + (metric.limit - average) * random(), 2),
    }


def _arrivals(rng: Random, count: int, now: int) -> Iterator[int]:
    """Yield the start times of a year's stopped jobs in order: most in working hours."""
    first, last = now - YEAR_SECONDS, now - _LATEST_STOPPED_SECONDS
    hours = range(first, last, 3600)
    cumulative = [0.0, *accumulate(map(_business, hours))]
    for part in _sorted_randoms(rng, count):
        where = part * cumulative[-1]
        hour = bisect(cumulative, where) - 1
        share = (where - cumulative[hour]) / (cumulative[hour + 1] - cumulative[hour])
        yield min(last, hours[hour] + int(3600 * share))


def _business(time: int) -> float:
    """Return how many jobs start in the hour that begins at a time, in any unit."""
    days, hour = divmod(time // 3600, 24)
    if (days + 3) % 7 >= 5:  # the epoch began on a Thursday
        return 1
    return 6 if 8 <= hour < 18 else 2


def _sorted_randoms(rng: Random, count: int) -> Iterator[float]:
    """Yield numbers below 1 in order, as sorting so many random ones would, but keep none."""
    reached = 0.0
    for left in range(count, 0, -1):
        reached += (1 - reached) * (1 - (1 - rng.random()) ** (1 / left))
        yield min(reached, 1 - 1e-12)
