"""Jobs as the contract spells them.

Stored JSON is copied into the answer unchanged: parsing it and writing it again would be most
of the work of a list.
"""

import time
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

import orjson
from flask import request
from orjson import Fragment

from ccapi.http import json_format
from ccapi.model import compat
from ccapi.model.job import JOB_META_FIELDS, Job

# All fields of schema.JobMeta, in the order of a CSV list's columns.
JOB_FIELDS = tuple(field.name for field in JOB_META_FIELDS)
_JSON_FIELDS = ("resources", "tags", "statistics", "footprint", "energyFootprint", "metaData")
_values = attrgetter(*(field.attribute for field in JOB_META_FIELDS))


def now() -> int:
    """Return the current time in epoch seconds, for the durations of running jobs."""
    return int(time.time())


def wants_unit_objects() -> bool:
    """Return whether the current request wants {"base": "B/s", "prefix": "G"} for "GB/s"."""
    return json_format.wants_ld_json(request.environ)


def job_meta(job: Job, at: int, *, with_unit_objects: bool | None = None) -> dict[str, Any]:
    """Return a job as schema.JobMeta; if it is running, its duration ends `at`.

    A stream outlives its request, and must pass `with_unit_objects`.
    """
    pairs = zip(JOB_FIELDS, _values(job), strict=True)
    fields = {name: value for name, value in pairs if value is not None}
    fields["duration"] = job.duration(at)
    if job.statistics is not None:
        if with_unit_objects is None:
            with_unit_objects = wants_unit_objects()
        if with_unit_objects:
            fields["statistics"] = _split_units(job.statistics)
    for name in _JSON_FIELDS:
        if name in fields:
            fields[name] = Fragment(fields[name])
    return fields


def _split_units(statistics: str) -> str:
    """Return statistics whose units are objects, as today's clients of the family expect."""
    metrics = orjson.loads(statistics)
    for values in metrics.values():
        values["unit"] = compat.split_unit(values["unit"])
    return orjson.dumps(metrics).decode()


def job_with_timestamp(job: Job, at: int) -> dict[str, Any]:
    """Return a job as schema.Job: its start is an RFC 3339 time stamp in UTC."""
    fields = job_meta(job, at)
    fields.pop("statistics", None)
    start = datetime.fromtimestamp(job.start_time, UTC)
    return {**fields, "startTime": f"{start:%Y-%m-%dT%H:%M:%S}Z"}
