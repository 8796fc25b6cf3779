"""What a request's body must be, after behaviour.md and nothing else.

A check takes a value and returns it as it counts: nulls dropped, "not given" as None.
"""

import json
import re
from collections.abc import Callable
from typing import Any, NoReturn

Check = Callable[[Any], Any]

LARGEST = 2**63 - 1
FINAL_STATES = (
    "completed", "failed", "cancelled", "stopped", "timeout", "preempted", "out_of_memory",
)  # fmt: skip
STATES = ("running", *FINAL_STATES)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HOST = re.compile(r"[A-Za-z0-9._-]{1,255}")


class Wrong(Exception):
    """The request is to be refused with 400, with a message that names one of the fields."""

    def __init__(self, *fields: str) -> None:
        super().__init__(*fields)
        self.fields = fields


def _require(met: object) -> None:
    if not met:
        raise Wrong


def parse(body: bytes) -> Any:
    """Read a JSON document as strictly as behaviour.md asks for; raises Wrong."""
    try:
        value = json.loads(body.decode(), parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise Wrong from None
    return value


def _no_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def integer(least: int = 0, most: int = LARGEST) -> Check:
    def check(value: Any) -> Any:
        _require(type(value) is int and least <= value <= most)
        return value

    return check


def number(value: Any) -> Any:
    _require(type(value) in {int, float} and value >= 0)
    _require(type(value) is float or value <= LARGEST)
    return value


def text(least: int = 0) -> Check:
    def check(value: Any) -> Any:
        _require(type(value) is str and len(value) >= least and "\0" not in value)
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
    """Take one value, 0 or the empty string, as "not given"."""

    def check_given(value: Any) -> Any:
        return None if type(value) is type(nothing) and value == nothing else check(value)

    return check_given


def array(check: Check, least: int = 0) -> Check:
    def check_all(value: Any) -> Any:
        _require(type(value) is list and len(value) >= least)
        return [check(item) for item in value]

    return check_all


def table(check: Check) -> Check:
    def check_all(value: Any) -> Any:
        _require(type(value) is dict)
        return {text()(key): check(item) for key, item in value.items()}

    return check_all


def record(fields: dict[str, Check], *required: str) -> Check:
    """Check an object: nulls are "not given", unknown fields are wrong."""

    def check(value: Any) -> Any:
        _require(type(value) is dict)
        given = {name: item for name, item in value.items() if item is not None}
        wrong = {*(set(given) - set(fields)), *(set(required) - set(given))}
        if wrong:
            raise Wrong(*wrong)
        return {name: _named(name, fields[name], item) for name, item in given.items()}

    return check


def _named(name: str, check: Check, value: Any) -> Any:
    try:
        return check(value)
    except Wrong:
        raise Wrong(name) from None


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
    """Check what start_job takes."""
    checked: dict[str, Any] = _JOB(value)
    hosts = [resource["hostname"] for resource in checked["resources"]]
    if len(set(hosts)) < len(hosts):
        raise Wrong("resources")
    if checked.get("numNodes", len(hosts)) != len(hosts):
        raise Wrong("numNodes")
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
    """Check what correct_job takes."""
    checked: dict[str, Any] = _END(value)
    if not checked:
        raise Wrong("jobState")
    return checked
