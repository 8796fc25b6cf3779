"""What is registered and archived, and how a job must look in an answer and in a file."""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

_PREFIXES = "KMGTPE"
_BASES = ("B", "F", "B/s", "F/s", "CPI", "IPC", "Hz", "W", "°C", "")


class Operation(NamedTuple):
    """A request: `credential` is a role or a way not to have one, `target` goes into the path."""

    name: str
    credential: str = "admin"
    target: str = ""
    query: str = ""
    body: bytes = b""
    variant: int = 0


class Call(NamedTuple):
    """An operation with its answer; times are seconds, of the clock that durations follow."""

    operation: Operation
    status: int
    answer: Any
    began: float
    ended: float


class Run(NamedTuple):
    """A run of a job; `facts` and `meta_data` are JSON, of what does not change."""

    id: int
    job_id: int
    cluster: str
    start_time: int
    facts: str
    meta_data: str
    tags: frozenset[tuple[str, str]]
    status: int
    state: str = "running"
    stop_time: int | None = None

    @property
    def is_running(self) -> bool:
        """Tell whether the run has not been stopped."""
        return self.state == "running"

    @property
    def path(self) -> str:
        """Return where the archive has the run, from its root."""
        group, rest = divmod(self.job_id, 1000)
        return f"{self.cluster}/{group}/{rest:03}/{self.start_time}/meta.json"


class World(NamedTuple):
    """What is registered, and what is archived and was so before: path and JSON."""

    runs: frozenset[Run] = frozenset()
    archive: frozenset[tuple[str, str]] = frozenset()
    former: frozenset[tuple[str, str]] = frozenset()

    def run(self, id_: int) -> Run | None:
        """Find a run by its database id."""
        return next((run for run in self.runs if run.id == id_), None)

    def with_run(self, run: Run) -> "World":
        """Add a run, or replace the one with its database id."""
        return self._replace(runs=frozenset({*self.without(run.id).runs, run}))

    def without(self, id_: int) -> "World":
        """Forget a run."""
        return self._replace(runs=frozenset(run for run in self.runs if run.id != id_))

    def with_archived(self, run: Run) -> "World":
        """Write a run's file."""
        others = {(path, file) for path, file in self.archive if path != run.path}
        return self._replace(
            archive=frozenset({*others, (run.path, archived(run))}),
            former=self.former | self.archive - others,
        )


class Unexplained(Exception):
    """The answer is not one that the model gives here."""


def expect(call: Call, status: int) -> None:
    """Check the status of an answer; raises Unexplained."""
    check(call.status == status, f"{status}, not {call.status}")


def check(met: object, rule: str) -> None:
    """Check anything; raises Unexplained."""
    if not met:
        raise Unexplained(rule)


def check_job(shown: dict[str, Any], run: Run, call: Call, leave_out: Iterable[str] = ()) -> None:
    """Check a job in an answer, all of it; ids of tags are checked elsewhere."""
    expected = {
        **json.loads(run.facts),
        "id": run.id,
        "jobState": run.state,
        "monitoringStatus": run.status,
        "tags": sorted(run.tags),
    }
    if run.meta_data != "{}":
        expected["metaData"] = json.loads(run.meta_data)
    for name in leave_out:
        expected.pop(name, None)
    duration = shown.get("duration", 0)
    ends = (call.began, call.ended) if run.stop_time is None else (run.stop_time, run.stop_time)
    least, most = (max(1, int(end) - run.start_time) for end in ends)
    check(least <= duration <= most, f"{least} <= duration <= {most}, not {duration}")
    given = {name: value for name, value in shown.items() if name != "duration"}
    given["tags"] = sorted((tag["type"], tag["name"]) for tag in shown["tags"])
    check(given == expected, f"the job is\n  {expected}, not\n  {given}")


def archived(run: Run) -> str:
    """Return a stopped run's meta.json, tags in order."""
    facts = json.loads(run.facts)
    assert run.stop_time is not None
    document = {
        **facts,
        "jobState": run.state,
        "monitoringStatus": 3,
        "duration": max(1, run.stop_time - run.start_time),
        "tags": [{"type": type_, "name": name} for type_, name in sorted(run.tags)],
        "statistics": {
            metric: {**values, "unit": _unit(values["unit"])}
            for metric, values in facts.get("statistics", {}).items()
        },
    }
    if run.meta_data != "{}":
        document["metaData"] = json.loads(run.meta_data)
    return json.dumps(document, sort_keys=True)


def _unit(unit: str) -> dict[str, str]:
    if unit not in _BASES and unit[0] in _PREFIXES and unit[1:] in _BASES:
        return {"prefix": unit[0], "base": unit[1:]}
    return {"base": unit}
