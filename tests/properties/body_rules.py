"""The rules of a request's body, after behaviour.md and nothing else.

A check returns the value as the service understands it: without nulls, and None for a value that
means "not given".
"""

import json
import re
from collections.abc import Callable
from typing import Any, NoReturn

Check = Callable[[Any], Any]

MAX_INTEGER = 2**63 - 1
FINAL_STATES = (
    "completed", "failed", "cancelled", "stopped", "timeout", "preempted", "out_of_memory",
)  # fmt: skip
STATES = ("running", *FINAL_STATES)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HOST = re.compile(r"[A-Za-z0-9._-]{1,255}")


class Invalid(Exception):
    """The service must answer 400, with a message that names one of the fields."""

    def __init__(self, *fields: str) -> None:
        super().__init__(*fields)
        self.fields = fields


def _require(condition: object) -> None:
    if not condition:
        raise Invalid


def parse(body: bytes) -> Any:
    """Read a JSON document as strictly as behaviour.md says; raises Invalid."""
    try:
        value = json.loads(body.decode(), parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise Invalid from None
    return value


def _no_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def integer(minimum: int = 0, maximum: int = MAX_INTEGER) -> Check:
    def check(value: Any) -> Any:
        _require(type(value) is int and minimum <= value <= maximum)
        return value

    return check


def number(value: Any) -> Any:
    _require(type(value) in {int, float} and value >= 0)
    _require(type(value) is float or value <= MAX_INTEGER)
    return value


def text(min_length: int = 0) -> Check:
    def check(value: Any) -> Any:
        _require(type(value) is str and len(value) >= min_length and "\0" not in value)
        return value

    return check


def matching(pattern: re.Pattern[str]) -> Check:
    def check(value: Any) -> Any:
        _require(type(value) is str and pattern.fullmatch(value))
        return value

    return check


def one_of(*values: str) -> Check:
    def check(value: Any) -> Any:
        _require(type(value) is str and value in values)
        return value

    return check


def optional(check: Check, nothing: int | str) -> Check:
    """Read one value, 0 or the empty string, as "not given"."""

    def check_value(value: Any) -> Any:
        return None if type(value) is type(nothing) and value == nothing else check(value)

    return check_value


def array(check: Check, min_length: int = 0) -> Check:
    def check_all(value: Any) -> Any:
        _require(type(value) is list and len(value) >= min_length)
        return [check(item) for item in value]

    return check_all


def table(check: Check) -> Check:
    def check_all(value: Any) -> Any:
        _require(type(value) is dict)
        return {text()(key): check(item) for key, item in value.items()}

    return check_all


def record(fields: dict[str, Check], *required: str) -> Check:
    """Check an object: nulls are "not given", unknown fields are invalid."""

    def check(value: Any) -> Any:
        _require(type(value) is dict)
        values = {name: item for name, item in value.items() if item is not None}
        invalid = {*(set(values) - set(fields)), *(set(required) - set(values))}
        if invalid:
            raise Invalid(*invalid)
        return {name: _named(name, fields[name], item) for name, item in values.items()}

    return check


def _named(name: str, check: Check, value: Any) -> Any:
    try:
        return check(value)
    except Invalid:
        raise Invalid(name) from None


TAG = {"type": text(1), "name": text(1)}
RESOURCE = record(
    {
        "hostname": matching(_HOST),
        "hwthreads": array(integer()),
        "accelerators": array(text()),
        "configuration": text(),
    },
    "hostname",
)
STATISTICS = record({"unit": text(), "avg": number, "min": number, "max": number})
_COUNT = optional(integer(), 0)

_JOB = record(
    {
        "id": integer(),
        "duration": integer(),
        "jobId": integer(1),
        "user": text(1),
        "cluster": matching(NAME),
        "project": text(),
        "startTime": integer(1),
        "resources": array(RESOURCE, 1),
        "numNodes": integer(1),
        "subCluster": optional(matching(NAME), ""),
        "partition": optional(text(), ""),
        "arrayJobId": _COUNT,
        "numHwthreads": _COUNT,
        "numAcc": _COUNT,
        "smt": _COUNT,
        "walltime": _COUNT,
        "exclusive": integer(0, 2),
        "monitoringStatus": integer(0, 3),
        "jobState": one_of("running"),
        "metaData": table(text()),
        "tags": array(record({**TAG, "id": integer()}, "type", "name")),
        "statistics": table(STATISTICS),
    },
    "jobId", "user", "cluster", "startTime", "resources",
)  # fmt: skip
_STOP = {
    "jobId": integer(1),
    "cluster": matching(NAME),
    "startTime": integer(1),
    "stopTime": integer(1),
    "jobState": one_of(*FINAL_STATES),
}


def job(value: Any) -> dict[str, Any]:
    """Check the body of start_job."""
    checked: dict[str, Any] = _JOB(value)
    hosts = [resource["hostname"] for resource in checked["resources"]]
    if len(set(hosts)) < len(hosts):
        raise Invalid("resources")
    if checked.get("numNodes", len(hosts)) != len(hosts):
        raise Invalid("numNodes")
    return checked


_END = record({name: _STOP[name] for name in ("stopTime", "jobState")})
stop_by_id = record(_STOP, "stopTime", "jobState")
stop = record(_STOP, "jobId", "stopTime", "jobState")
delete = record({name: _STOP[name] for name in ("jobId", "cluster", "startTime")}, "jobId")
tags = array(record(TAG, "type", "name"))
edit_meta = record(
    {"metaData": table(lambda value: None if value is None else text()(value))}, "metaData"
)


def correct(value: Any) -> dict[str, Any]:
    """Check the body of correct_job."""
    checked: dict[str, Any] = _END(value)
    if not checked:
        raise Invalid("jobState")
    return checked
