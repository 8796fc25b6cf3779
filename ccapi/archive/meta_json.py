"""meta.json: a finished job as other programs of the ClusterCockpit family read it."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from orjson import Fragment

from ccapi.archive import validation, version3
from ccapi.errors import ArchiveError, InvalidInput
from ccapi.model import compat
from ccapi.model.job import FINAL_STATES, PLAIN_FIELDS, Job, JobKey, MonitoringStatus
from ccapi.model.rules import MAX_INTEGER

_EXPECTED: dict[type, str] = {
    int: f"must be an integer from 0 to {MAX_INTEGER}",
    float: "must be a number",
    str: "must be a string",
    list: "must be an array",
    dict: "must be an object",
}
_JSON_FIELDS = {
    "footprint": "footprint",
    "energyFootprint": "energy_footprint",
    "metaData": "meta_data",
}


def encode(job: Job, sub_clusters: Sequence[str] | None = None) -> bytes:
    """Write a finished job as meta.json of version 1; the same job gives the same bytes.

    With the names in the cluster's cluster.json it is of version 3. The status is always
    "archived", because the file exists. The duration of a job that stopped within a second is 1.
    """
    if job.stop_time is None:
        raise ValueError(f"job id {job.id} is running: only finished jobs are archived")
    document = {
        field.name: value
        for field in PLAIN_FIELDS
        if (value := getattr(job, field.attribute)) is not None
    }
    document["shared"] = job.shared
    document["duration"] = job.duration(job.stop_time)
    document["monitoringStatus"] = MonitoringStatus.ARCHIVED
    document["resources"] = Fragment(job.resources)
    document["tags"] = _sort_tags(orjson.loads(job.tags))
    document["statistics"] = {
        metric: {**values, "unit": compat.split_unit(values["unit"])}
        if "unit" in values
        else values
        for metric, values in orjson.loads(job.statistics or "{}").items()
    }
    for name, attribute in _JSON_FIELDS.items():
        if (text := getattr(job, attribute)) is not None:
            document[name] = Fragment(text)
    if sub_clusters is not None:
        version3.adapt(document, sub_clusters)
    return orjson.dumps(document)


def convert(data: bytes, sub_clusters: Sequence[str] | None = None) -> bytes:
    """Return a meta.json of version 1 or, with the names in cluster.json, of version 3.

    Keeps fields that only other programs know. Raises ArchiveError.
    """
    document = _load(data)
    former = dict(document)
    version3.restore(document)
    if sub_clusters is not None:
        version3.adapt(document, sub_clusters)
    return data if document == former else orjson.dumps(document)


def belongs_to(data: bytes, key: JobKey) -> bool:
    """Return whether a document is JSON with the key of a run, without reading the rest."""
    try:
        document = orjson.loads(data)
        return key == (document["cluster"], document["jobId"], document["startTime"])
    except (ValueError, LookupError, TypeError):
        return False


def without_meta_data(data: bytes) -> bytes:
    """Return a meta.json without the job's metadata, whatever the case of its name."""
    document = _load(data)
    return orjson.dumps({k: v for k, v in document.items() if k.lower() != "metadata"})


def decode(data: bytes, bad_metrics: list[str] | None = None) -> Job:
    """Read a meta.json: the inverse of `encode`, except for the database's ids.

    Fields that other programs omit have the contract's defaults, and fields that they add are
    ignored. With a list for their names, metrics that the API would refuse are left out. Raises
    ArchiveError, which names the field.
    """
    document = _load(data)
    version3.restore(document)
    try:
        document, _ = compat.translate_job(document)
    except InvalidInput as error:
        raise ArchiveError(str(error)) from None
    values: dict[str, Any] = {
        field.attribute: _get_field(document, field.name, field.rule.json_type)
        if field.is_required or field.name in document
        else field.default
        for field in PLAIN_FIELDS
    }
    if values["job_state"] not in FINAL_STATES:
        raise ArchiveError(f"jobState: must be {' or '.join(FINAL_STATES)}")
    for name, attribute in _JSON_FIELDS.items():
        content = _get_field(document, name, dict, {})
        values[attribute] = _dump(content) if content else None
    return Job(
        **values,
        id=None,
        stop_time=values["start_time"] + max(1, _get_field(document, "duration", int)),
        monitoring_status=MonitoringStatus.ARCHIVED,
        resources=_dump(_get_field(document, "resources", list)),
        statistics=_get_statistics(document, bad_metrics),
        tags=_dump(_sort_tags(_get_field(document, "tags", list, []))),
    )


def _load(data: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(data)
    except ValueError as error:
        raise ArchiveError(f"is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ArchiveError("is not a JSON object")
    _dump(document)  # orjson reads deeper nesting than it can write
    return document


def _get_field(
    document: Mapping[str, Any], name: str, json_type: type, default: object = None
) -> Any:
    value: Any = document.get(name, default)
    if value is None:
        raise ArchiveError(f"{name}: is required")
    if json_type is float and type(value) is int:
        value = float(value)
    if type(value) is not json_type or (isinstance(value, int) and not 0 <= value <= MAX_INTEGER):
        raise ArchiveError(f"{name}: {_EXPECTED[json_type]}")
    return value


def _get_statistics(document: Mapping[str, Any], bad_metrics: list[str] | None) -> str | None:
    statistics = _get_field(document, "statistics", dict, {})
    if bad_metrics is not None:
        bad_metrics += filter(
            lambda metric: validation.metric_violation(metric, statistics[metric]), statistics
        )
        for metric in bad_metrics:
            del statistics[metric]
    for values in statistics.values():
        if type(values) is not dict or type(values.get("unit", "")) is not str:
            raise ArchiveError("statistics: must be objects whose unit has a base")
    return _dump(statistics) if statistics else None


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
