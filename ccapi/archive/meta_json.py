"""meta.json: a finished job as other programs of the ClusterCockpit family read it."""

from collections.abc import Mapping
from typing import Any

import orjson
from orjson import Fragment

from ccapi.archive import compat as dialects
from ccapi.errors import ArchiveError
from ccapi.model.job import Job, JobState, MonitoringStatus
from ccapi.model.rules import MAX_INTEGER

# JobMeta's spelling and ours, with the type of the value.
_REQUIRED = (
    ("jobId", "job_id", int),
    ("user", "user_name", str),
    ("cluster", "cluster", str),
    ("numNodes", "num_nodes", int),
    ("startTime", "start_time", int),
    ("jobState", "job_state", str),
)
_DEFAULTED: tuple[tuple[str, str, type, Any], ...] = (
    ("project", "project", str, ""),
    ("subCluster", "sub_cluster", str, ""),
    ("exclusive", "exclusive", int, 1),
)
_OPTIONAL = (
    ("partition", "partition", str),
    ("arrayJobId", "array_job_id", int),
    ("numHwthreads", "num_hwthreads", int),
    ("numAcc", "num_acc", int),
    ("smt", "smt", int),
    ("walltime", "walltime", int),
)
_PREFIXES = frozenset("KMGTPE")
_BASES = frozenset(("B", "F", "B/s", "F/s", "CPI", "IPC", "Hz", "W", "°C", ""))


def encode(job: Job) -> bytes:
    """Write a finished job as meta.json; the same job gives the same bytes.

    The status is always "archived": that is what the file's existence means. A
    duration is at least 1, so a job that stopped as it started shows 1.
    """
    if job.stop_time is None:
        raise ValueError(f"job id {job.id} runs: only finished jobs are archived")
    document: dict[str, Any] = {name: getattr(job, attribute) for name, attribute, _ in _REQUIRED}
    document.update((name, getattr(job, attribute)) for name, attribute, _, _ in _DEFAULTED)
    document["duration"] = job.duration(job.stop_time)
    document["monitoringStatus"] = MonitoringStatus.ARCHIVED
    for name, attribute, _ in _OPTIONAL:
        value = getattr(job, attribute)
        if value is not None:
            document[name] = value
    document["resources"] = Fragment(job.resources)
    document["tags"] = _plain_tags(orjson.loads(job.tags))
    document["statistics"] = _with_unit_objects(orjson.loads(job.statistics or "{}"))
    if job.meta_data is not None:
        document["metaData"] = Fragment(job.meta_data)
    return orjson.dumps(document)


def decode(data: bytes) -> Job:
    """Read a meta.json: the inverse of `encode`, but for the database's ids.

    What other programs may leave out has the contract's defaults, and what they add is
    passed over. Raises ArchiveError, which names what is wrong.
    """
    try:
        document = orjson.loads(data)
    except ValueError as error:
        raise ArchiveError(f"is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ArchiveError("is not a JSON object")
    _text(document)  # orjson reads what is nested deeper than it, or others, could write
    given = dialects.translate(document)
    values = {attribute: _take(given, name, kind) for name, attribute, kind in _REQUIRED}
    for name, attribute, kind, default in _DEFAULTED:
        values[attribute] = _take(given, name, kind, default)
    for name, attribute, kind in _OPTIONAL:
        values[attribute] = _take(given, name, kind) if name in given else None
    return Job(**values, **_rest(given, values["start_time"]))


def _rest(given: dict[str, Any], start_time: int) -> dict[str, Any]:
    """Read what has a form of its own."""
    if given["jobState"] not in set(JobState) - {JobState.RUNNING}:
        raise ArchiveError(f"jobState is {given['jobState']!r:.40}, which is no final state")
    statistics = _take(given, "statistics", dict, {})
    meta_data = _take(given, "metaData", dict, {})
    tags = _take(given, "tags", list, [])
    return {
        "id": None,
        "stop_time": start_time + max(1, _take(given, "duration", int)),
        "monitoring_status": MonitoringStatus.ARCHIVED,
        "resources": _text(_take(given, "resources", list)),
        "meta_data": _text(meta_data) if meta_data else None,
        "statistics": _text(_with_unit_texts(statistics)) if statistics else None,
        "tags": _text(_plain_tags(tags)),
    }


def _take(given: Mapping[str, Any], name: str, kind: type, default: Any = None) -> Any:
    value: Any = given.get(name, default)
    if value is None:
        raise ArchiveError(f"{name} is missing")
    if type(value) is not kind:
        raise ArchiveError(f"{name} is not of type {kind.__name__}")
    if isinstance(value, int) and not 0 <= value <= MAX_INTEGER:
        raise ArchiveError(f"{name} is out of range")
    return value


def _text(value: object) -> str:
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError as error:
        raise ArchiveError(f"is JSON that is nested too deep: {error}") from None


def _plain_tags(tags: list[Any]) -> list[dict[str, str]]:
    try:
        plain = sorted((tag["type"] + "", tag["name"] + "") for tag in tags)
    except (KeyError, TypeError):
        raise ArchiveError("tags are not objects with type and name") from None
    return [{"type": type_, "name": name} for type_, name in plain]


def _with_unit_objects(statistics: dict[str, Any]) -> dict[str, Any]:
    return {
        metric: {**values, "unit": unit_object(values["unit"])} if "unit" in values else values
        for metric, values in statistics.items()
    }


def _with_unit_texts(statistics: dict[str, Any]) -> dict[str, Any]:
    try:
        return {metric: _with_unit_text(values) for metric, values in statistics.items()}
    except (KeyError, TypeError, AttributeError):
        raise ArchiveError("statistics are not objects whose unit is an object") from None


def _with_unit_text(values: Mapping[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in values.items() if (key, value) != ("unit", None)}
    return {key: unit_text(value) if key == "unit" else value for key, value in given.items()}


def unit_object(unit: str) -> dict[str, str]:
    """Split a unit into prefix and base: GB/s is {"prefix": "G", "base": "B/s"}.

    A unit whose base is unknown is kept whole as a base.
    """
    if unit not in _BASES and unit[0] in _PREFIXES and unit[1:] in _BASES:
        return {"prefix": unit[0], "base": unit[1:]}
    return {"base": unit}


def unit_text(unit: Mapping[str, str | None]) -> str:
    """Join prefix and base again: the inverse of `unit_object`."""
    return (unit.get("prefix") or "") + (unit["base"] or "")
