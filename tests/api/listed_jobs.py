"""Random jobs, filters and sorts, and a plain scan that says what a list of them shows."""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any, NamedTuple

from ccapi.model.job import FINAL_STATES, NewJob, Tag
from tests.client import START

DAY = 86_400
NOW = START + 30 * DAY
USERS, PROJECTS = ("anna", "bert", "größe"), ("", "p1", "p2")
PARTITIONS = (None, "main", "large")
NAMES = (None, "rotor", "rotor_2", "rot%r", "Rotor", "a*b", "relax \\1")
TAGS = (Tag("a", "b"), Tag("a", "c"), Tag("b", "x:y"))


class Filter(NamedTuple):
    """A part of a query string, and whether a job matches it."""

    query: str
    matches: Callable[[NewJob], bool]


def random_job(number: int, rng: Random) -> NewJob:
    """Make a job of any kind; a third of them runs, and some start at the same moment."""
    start = START + rng.choice([rng.randrange(29 * DAY), rng.randrange(9) * DAY]) + number % 2
    hosts = rng.sample(["f1", "f2", "f3", "f10"], rng.choice([1, 1, 2, 3]))
    job = NewJob(
        job_id=number // 2 + 1,
        array_job_id=rng.choice([None, 5, 6]),
        start_time=start,
        user_name=rng.choice(USERS),
        project=rng.choice(PROJECTS),
        cluster=rng.choice(["alex", "fritz"]),
        sub_cluster=rng.choice(["", "spr"]),
        partition=rng.choice(PARTITIONS),
        resources=[{"hostname": host} for host in hosts],
        num_acc=rng.choice([None, 1, 8]),
        num_hwthreads=rng.choice([None, 1, 72]),
        walltime=rng.choice([None, 3600, DAY]),
        submit_time=rng.choice([None, start - 60, start - DAY, start + 5, start]),
        tags=rng.sample(TAGS, rng.choice([0, 0, 1, 2])),
    )
    name = rng.choice(NAMES)
    if name is not None:
        job.meta_data = {"jobName": name}
    if rng.random() < 0.3:
        return job
    stop = min(start + rng.choice([0, 1, 3600, rng.randrange(9 * DAY)]), NOW)
    return replace(job, job_state=rng.choice(FINAL_STATES[:4]), stop_time=stop)


def duration(job: NewJob) -> int:
    return max(1, (NOW if job.stop_time is None else job.stop_time) - job.start_time)


def wait(job: NewJob) -> int | None:
    return None if job.submit_time is None else max(0, job.start_time - job.submit_time)


def name_of(job: NewJob) -> str:
    return (job.meta_data or {}).get("jobName", "")


def values(parameter: str, *texts: str, of: Callable[[NewJob], Any]) -> list[Filter]:
    """Make filters by one value and by two."""
    one, two = {texts[0]}, set(texts[:2])
    return [
        Filter(f"{parameter}={texts[0]}", lambda job: str(of(job)) in one),
        Filter(
            "&".join(f"{parameter}={text}" for text in texts[:2]), lambda job: str(of(job)) in two
        ),
    ]


def within(
    parameter: str, lower: int, upper: int, of: Callable[[NewJob], float | None]
) -> list[Filter]:
    """Make filters by a range, and by the ranges that are open on a side."""

    def between(low: float, high: float) -> Callable[[NewJob], bool]:
        return lambda job: (value := of(job)) is not None and low <= value <= high

    return [
        Filter(f"{parameter}={lower}-{upper}", between(lower, upper)),
        Filter(f"{parameter}={lower}-", between(lower, 2**63)),
        Filter(f"{parameter}=-{upper}", between(0, upper)),
    ]


def hosts(job: NewJob) -> set[str]:
    return set(job.hostnames)


def is_tagged(job: NewJob, *tags: Tag) -> bool:
    return not set(tags).isdisjoint(job.tags)


MID = START + 10 * DAY
FILTERS: dict[str, list[Filter]] = {
    "state": values("state", "running", "failed", of=lambda job: job.job_state),
    "not-state": [
        Filter("not-state=completed", lambda job: job.job_state != "completed"),
        Filter(
            "not-state=running&not-state=failed",
            lambda job: job.job_state not in {"running", "failed"},
        ),
    ],
    "cluster": values("cluster", "alex", "fritz", of=lambda job: job.cluster),
    "sub-cluster": values("sub-cluster", "", "spr", of=lambda job: job.sub_cluster),
    "user": values("user", "anna", "bert", of=lambda job: job.user_name),
    "not-user": [Filter("not-user=anna", lambda job: job.user_name != "anna")],
    "project": values("project", "p1", "", of=lambda job: job.project),
    "partition": values("partition", "main", "large", of=lambda job: job.partition),
    "not-partition": [Filter("not-partition=main", lambda job: job.partition != "main")],
    "job-id": values("job-id", "7", "8", of=lambda job: job.job_id),
    "array-job-id": values("array-job-id", "5", "6", of=lambda job: job.array_job_id),
    "name": [
        Filter("name=rotor", lambda job: name_of(job).startswith("rotor")),
        Filter("name=rot%25", lambda job: name_of(job).startswith("rot%")),
        Filter(
            "name=Rotor&name=relax%20%5C",
            lambda job: name_of(job).startswith(("Rotor", "relax \\")),
        ),
    ],
    "host": [
        Filter("host=f1", lambda job: "f1" in hosts(job)),
        Filter("host=f10&host=f3&host=none", lambda job: bool({"f10", "f3"} & hosts(job))),
        Filter("host=none", lambda job: False),
    ],
    "tag": [
        Filter("tag=a:b", lambda job: is_tagged(job, TAGS[0])),
        Filter("tag=a:c&tag=b:x:y&tag=no:ne", lambda job: is_tagged(job, *TAGS[1:])),
    ],
    "not-tag": [
        Filter("not-tag=a:b", lambda job: not is_tagged(job, TAGS[0])),
        Filter("not-tag=a:b&not-tag=b:x:y", lambda job: not is_tagged(job, TAGS[0], TAGS[2])),
        Filter("not-tag=no:ne", lambda job: True),
    ],
    "start-time": within("start-time", START + 3 * DAY, MID, lambda job: job.start_time),
    "stop-time": within("stop-time", START + 3 * DAY, MID, lambda job: job.stop_time),
    "submit-time": within("submit-time", START + 3 * DAY, MID, lambda job: job.submit_time),
    "wait": within("wait", 1, 60, wait),
    "duration": within("duration", 2, 3600, duration),
    "walltime-used": within(
        "walltime-used",
        100,
        150,
        lambda job: None if job.walltime is None else 100.0 * duration(job) / job.walltime,
    ),
    "num-nodes": within("num-nodes", 2, 3, lambda job: len(job.resources)),
    "num-acc": within("num-acc", 1, 1, lambda job: job.num_acc or 0),
    "num-hwthreads": within("num-hwthreads", 1, 71, lambda job: job.num_hwthreads or 0),
}
