"""What a document must be for its job to enter the registry: the API's rules for a start."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import orjson

from ccapi.errors import ArchiveError, InvalidInput
from ccapi.model.cluster import is_hostname, is_name
from ccapi.model.job import MAX_EPOCH_SECOND, MAX_INTEGER, MAX_NAME_LENGTH, Job, count_hosts

_MOST_EXCLUSIVE = 2


def validate(job: Job) -> None:
    """Check a job that was read from an archive; raises ArchiveError, which names the field."""
    _check_name("user", job.user_name, least=1)
    _check_name("project", job.project)
    _check_name("partition", job.partition or "")
    _require(is_name(job.cluster), "cluster", "is no plain name")
    _require(not job.sub_cluster or is_name(job.sub_cluster), "subCluster", "is no plain name")
    _require(job.job_id >= 1, "jobId", "is not at least 1")
    _require(job.start_time >= 1, "startTime", "is not at least 1")
    _require((job.stop_time or 0) <= MAX_EPOCH_SECOND, "duration", "ends after the year 9999")
    _require(job.exclusive <= _MOST_EXCLUSIVE, "exclusive", "is not 0, 1 or 2")
    _check_resources(orjson.loads(job.resources), job.num_nodes)
    _check_tags(orjson.loads(job.tags))
    for key, value in orjson.loads(job.meta_data or "{}").items():
        _check_texts("metaData", (key, value))
    for metric, values in orjson.loads(job.statistics or "{}").items():
        _check_statistics(metric, values)


def _require(holds: bool, field: str, problem: str) -> None:  # noqa: FBT001 - the rule itself
    if not holds:
        raise ArchiveError(f"{field} {problem}")


def _check_texts(field: str, values: Iterable[Any]) -> None:
    for value in values:
        _require(type(value) is str, field, "holds something that is no string")
        _require("\0" not in value, field, "holds a NUL character")


def _check_name(field: str, value: str, *, least: int = 0) -> None:
    _check_texts(field, (value,))
    expected = f"is not of {least} to {MAX_NAME_LENGTH} characters"
    _require(least <= len(value) <= MAX_NAME_LENGTH, field, expected)


def _check_tags(tags: list[dict[str, str]]) -> None:
    for tag in tags:
        _check_name("tags", tag["type"], least=1)
        _check_name("tags", tag["name"], least=1)
    distinct = {(tag["type"], tag["name"]) for tag in tags}
    _require(len(distinct) == len(tags), "tags", "hold one twice")


def _check_resources(resources: list[Any], num_nodes: int) -> None:
    for resource in resources:
        _require(isinstance(resource, dict), "resources", "holds something that is no object")
        hostname = resource.get("hostname")
        named = isinstance(hostname, str) and is_hostname(hostname)
        _require(named, "resources", f"holds {hostname!r:.40}, which is no host name")
        for name, kind in (("hwthreads", list), ("accelerators", list), ("configuration", str)):
            right = isinstance(resource.get(name, kind()), kind)
            _require(right, name, f"of {hostname} is not of type {kind.__name__}")
        _check_numbers("hwthreads", resource.get("hwthreads", ()), int)
        _check_texts("accelerators", resource.get("accelerators", ()))
        _check_texts("configuration", (resource.get("configuration", ""),))
    try:
        count_hosts([resource["hostname"] for resource in resources], num_nodes)
    except InvalidInput as error:
        raise ArchiveError(str(error)) from None


def _check_numbers(field: str, values: Collection[Any], *kinds: type) -> None:
    """Check numbers at C speed: a job may have a hundred thousand hardware threads."""
    right = not values or (set(map(type, values)) <= set(kinds) and min(values) >= 0)
    _require(right, field, "holds something that is no number of at least 0")
    largest = max((value for value in values if type(value) is int), default=0)
    _require(largest <= MAX_INTEGER, field, "holds an integer beyond 64 bits")


def _check_statistics(metric: str, values: Mapping[str, Any]) -> None:
    _check_texts("statistics", (metric, values.get("unit", "")))
    numbers = [value for name, value in values.items() if name != "unit"]
    _check_numbers("statistics", numbers, int, float)
