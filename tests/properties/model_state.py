"""The registered and archived runs of the model, and how each appears in an answer or a file."""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

_PREFIXES = "KMGTPE"
_BASES = ("B", "F", "B/s", "F/s", "CPI", "IPC", "Hz", "W", "°C", "")


class Operation(NamedTuple):
    """A request: `credential` is a role or a kind of invalid token, `target` is in the path."""

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
    """A run of a job; `fields` and `meta_data` are JSON, and `fields` never change."""

    id: int
    job_id: int
    cluster: str
    start_time: int
    fields: str
    meta_data: str
    tags: frozenset[tuple[str, str]]
    status: int
    job_state: str = "running"
    stop_time: int | None = None

    @property
    def is_running(self) -> bool:
        """Return whether the run has not been stopped."""
        return self.job_state == "running"

    @property
    def path(self) -> str:
        """Return the path of the run's file below the archive's root."""
        group, rest = divmod(self.job_id, 1000)
        return f"{self.cluster}/{group}/{rest:03}/{self.start_time}/meta.json"


class State(NamedTuple):
    """All registered runs, and all archived files now and before: (path, JSON)."""

    runs: frozenset[Run] = frozenset()
    archive: frozenset[tuple[str, str]] = frozenset()
    former: frozenset[tuple[str, str]] = frozenset()

    def run(self, id_: int) -> Run | None:
        """Find a run by its database id."""
        return next((run for run in self.runs if run.id == id_), None)

    def with_run(self, run: Run) -> "State":
        """Add a run, or replace the one with its database id."""
        return self._replace(runs=frozenset({*self.without(run.id).runs, run}))

    def without(self, id_: int) -> "State":
        """Remove a run."""
        return self._replace(runs=frozenset(run for run in self.runs if run.id != id_))

    def with_archived(self, run: Run) -> "State":
        """Write a run's file."""
        others = {(path, file) for path, file in self.archive if path != run.path}
        return self._replace(
            archive=frozenset({*others, (run.path, archived(run))}),
            former=self.former | self.archive - others,
        )


class Unexplained(Exception):
    """The model would not give this answer in this state."""


def expect(call: Call, status: int) -> None:
    """Check the status of an answer; raises Unexplained."""
    check(call.status == status, f"{status}, not {call.status}")


def check(condition: object, rule: str) -> None:
    """Raise Unexplained unless a condition holds."""
    if not condition:
        raise Unexplained(rule)


def check_job(answer: dict[str, Any], run: Run, call: Call, leave_out: Iterable[str] = ()) -> None:
    """Compare a job of an answer with a run in all fields but the ids of tags."""
    expected = {
        **json.loads(run.fields),
        "id": run.id,
        "jobState": run.job_state,
        "monitoringStatus": run.status,
        "tags": sorted(run.tags),
    }
    if run.meta_data != "{}":
        expected["metaData"] = json.loads(run.meta_data)
    for name in leave_out:
        expected.pop(name, None)
    duration = answer.get("duration", 0)
    ends = (call.began, call.ended) if run.stop_time is None else (run.stop_time, run.stop_time)
    minimum, maximum = (max(1, int(end) - run.start_time) for end in ends)
    check(minimum <= duration <= maximum, f"{minimum} <= duration <= {maximum}, not {duration}")
    job = {name: value for name, value in answer.items() if name != "duration"}
    job["tags"] = sorted((tag["type"], tag["name"]) for tag in answer["tags"])
    check(job == expected, f"the job is\n  {expected}, not\n  {job}")


def archived(run: Run) -> str:
    """Return a stopped run's meta.json with sorted tags."""
    fields = json.loads(run.fields)
    assert run.stop_time is not None
    document = {
        **fields,
        "jobState": run.job_state,
        "monitoringStatus": 3,
        "duration": max(1, run.stop_time - run.start_time),
        "tags": [{"type": type_, "name": name} for type_, name in sorted(run.tags)],
        "statistics": {
            metric: {**values, "unit": _unit(values["unit"])}
            for metric, values in fields.get("statistics", {}).items()
        },
    }
    if run.meta_data != "{}":
        document["metaData"] = json.loads(run.meta_data)
    return json.dumps(document, sort_keys=True)


def _unit(unit: str) -> dict[str, str]:
    if unit not in _BASES and unit[0] in _PREFIXES and unit[1:] in _BASES:
        return {"prefix": unit[0], "base": unit[1:]}
    return {"base": unit}
