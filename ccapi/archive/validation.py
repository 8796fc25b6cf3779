"""Check jobs from other archives by the rules of the API."""

from itertools import chain
from typing import Any

import orjson

from ccapi.errors import ArchiveError, InvalidInput
from ccapi.model import rules
from ccapi.model.job import PLAIN_FIELDS, Job
from ccapi.model.rules import Rule

_RESOURCE_RULES: dict[str, Rule] = {
    "hwthreads": rules.HWTHREADS,
    "accelerators": rules.ACCELERATORS,
    "configuration": rules.CONFIGURATION,
}


def validate(job: Job) -> None:
    """Check that the API would accept a job; raises ArchiveError, which names the field."""
    for field in PLAIN_FIELDS:
        value = getattr(job, field.attribute)
        if value is not None:
            _check(field.name, value, field.rule)
    _check("startTime + duration", job.stop_time, rules.EPOCH_SECOND)
    _check_resources(orjson.loads(job.resources), job.num_nodes)
    tags = [(tag["type"], tag["name"]) for tag in orjson.loads(job.tags)]
    for text in chain.from_iterable(tags):
        _check("tags", text, rules.TAG)
    if len(set(tags)) < len(tags):
        raise ArchiveError("tags: must be distinct")
    for key, value in orjson.loads(job.meta_data or "{}").items():
        _check("metaData", key, rules.TEXT)
        _check(f"metaData.{key:.40}", value, rules.META_VALUE)
    _check("footprint", orjson.loads(job.footprint or "{}"), rules.FOOTPRINT)
    _check("energyFootprint", orjson.loads(job.energy_footprint or "{}"), rules.FOOTPRINT)
    for metric, values in orjson.loads(job.statistics or "{}").items():
        if (violation := metric_violation(metric, values)) is not None:
            raise ArchiveError(violation)


def _check(path: str, value: Any, rule: Rule) -> None:
    violation = rule.violation(value)
    if violation is not None:
        raise ArchiveError(f"{path}: {violation}")


def _check_resources(resources: list[Any], num_nodes: int) -> None:
    for index, resource in enumerate(resources):
        if not isinstance(resource, dict):
            raise ArchiveError(f"resources.{index}: must be an object")
        _check(f"resources.{index}.hostname", resource.get("hostname"), rules.HOSTNAME)
        for name in resource.keys() & _RESOURCE_RULES:
            _check(f"resources.{index}.{name}", resource[name], _RESOURCE_RULES[name])
    try:
        rules.count_hosts([resource["hostname"] for resource in resources], num_nodes)
    except InvalidInput as error:
        raise ArchiveError(str(error)) from None


def metric_violation(metric: str, values: Any) -> str | None:
    """Return why the API would refuse a metric of a job's statistics, None if it would not."""
    if (violation := rules.TEXT.violation(metric)) is not None:
        return f"statistics: {violation}"
    if not isinstance(values, dict):
        return f"statistics.{metric:.40}: must be an object"
    for name, value in values.items():
        rule = rules.TEXT if name == "unit" else rules.STATISTIC
        if (violation := rule.violation(value)) is not None:
            return f"statistics.{metric:.40}.{name}: {violation}"
    return None
