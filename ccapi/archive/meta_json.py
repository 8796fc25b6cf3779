"""meta.json: a finished job as other programs of the ClusterCockpit family read it."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from orjson import Fragment

from ccapi.archive import compat
from ccapi.errors import ArchiveError
from ccapi.model.job import FINAL_STATES, PLAIN_FIELDS, Job, MonitoringStatus
from ccapi.model.rules import MAX_INTEGER

_EXPECTED: dict[type, str] = {
    int: f"must be an integer from 0 to {MAX_INTEGER}",
    str: "must be a string",
    list: "must be an array",
    dict: "must be an object",
}
_PREFIXES = frozenset("KMGTPE")
_BASES = frozenset(("B", "F", "B/s", "F/s", "CPI", "IPC", "Hz", "W", "°C", ""))


def encode(job: Job) -> bytes:
    """Write a finished job as meta.json; the same job gives the same bytes.

    The status is always "archived", because the file exists. The duration of a job that
    stopped within a second is 1.
    """
    if job.stop_time is None:
        raise ValueError(f"job id {job.id} is running: only finished jobs are archived")
    document = {
        field.name: value
        for field in PLAIN_FIELDS
        if (value := getattr(job, field.attribute)) is not None
    }
    document["duration"] = job.duration(job.stop_time)
    document["monitoringStatus"] = MonitoringStatus.ARCHIVED
    document["resources"] = Fragment(job.resources)
    document["tags"] = _sort_tags(orjson.loads(job.tags))
    document["statistics"] = _convert_units(orjson.loads(job.statistics or "{}"), split_unit)
    if job.meta_data is not None:
        document["metaData"] = Fragment(job.meta_data)
    return orjson.dumps(document)


def decode(data: bytes) -> Job:
    """Read a meta.json: the inverse of `encode`, except for the database's ids.

    Fields that other programs omit have the contract's defaults, and fields that they add are
    ignored. Raises ArchiveError, which names the field.
    """
    try:
        document = orjson.loads(data)
    except ValueError as error:
        raise ArchiveError(f"is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ArchiveError("is not a JSON object")
    _dump(document)  # orjson reads deeper nesting than it can write
    document = compat.translate(document)
    values: dict[str, Any] = {}
    for field in PLAIN_FIELDS:
        if field.is_required or field.name in document:
            values[field.attribute] = _get_field(document, field.name, field.rule.json_type)
        else:
            values[field.attribute] = field.default
    if values["job_state"] not in FINAL_STATES:
        raise ArchiveError(f"jobState: must be {' or '.join(FINAL_STATES)}")
    try:
        statistics = _convert_units(_get_field(document, "statistics", dict, {}), join_unit)
    except (KeyError, TypeError, AttributeError):
        raise ArchiveError("statistics: must be objects whose unit has a base") from None
    meta_data = _get_field(document, "metaData", dict, {})
    return Job(
        **values,
        id=None,
        stop_time=values["start_time"] + max(1, _get_field(document, "duration", int)),
        monitoring_status=MonitoringStatus.ARCHIVED,
        resources=_dump(_get_field(document, "resources", list)),
        statistics=_dump(statistics) if statistics else None,
        tags=_dump(_sort_tags(_get_field(document, "tags", list, []))),
        meta_data=_dump(meta_data) if meta_data else None,
    )


def _get_field(
    document: Mapping[str, Any], name: str, json_type: type, default: object = None
) -> Any:
    value: Any = document.get(name, default)
    if value is None:
        raise ArchiveError(f"{name}: is required")
    if type(value) is not json_type or (isinstance(value, int) and not 0 <= value <= MAX_INTEGER):
        raise ArchiveError(f"{name}: {_EXPECTED[json_type]}")
    return value


def _dump(value: object) -> str:
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError as error:
        raise ArchiveError(f"is JSON that is nested too deep: {error}") from None


def _sort_tags(tags: list[Any]) -> list[dict[str, str]]:
    """Return tags without ids, sorted by type and name."""
    try:
        # Adding "" raises TypeError for what is not a string.
        pairs = sorted((tag["type"] + "", tag["name"] + "") for tag in tags)
    except (KeyError, TypeError):
        raise ArchiveError("tags: must be objects with type and name") from None
    return [{"type": type_, "name": name} for type_, name in pairs]


def _convert_units(statistics: dict[str, Any], convert: Callable[[Any], object]) -> dict[str, Any]:
    return {
        metric: {
            name: convert(value) if name == "unit" else value for name, value in values.items()
        }
        for metric, values in statistics.items()
    }


def split_unit(unit: str) -> dict[str, str]:
    """Split a unit into prefix and base: GB/s is {"prefix": "G", "base": "B/s"}.

    A unit with an unknown base is not split.
    """
    if unit not in _BASES and unit[0] in _PREFIXES and unit[1:] in _BASES:
        return {"prefix": unit[0], "base": unit[1:]}
    return {"base": unit}


def join_unit(unit: Mapping[str, str | None] | str) -> str:
    """Join prefix and base: the inverse of `split_unit`; other programs also write strings."""
    if isinstance(unit, str):
        return unit
    return (unit.get("prefix") or "") + (unit["base"] or "")
