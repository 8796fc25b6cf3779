"""The rules of a request's body, after behaviour.md and nothing else.

A check returns the value as the service understands it: without nulls, and None for a value that
means "not given".
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

Check = Callable[[Any], Any]

MAX_INTEGER = 2**63 - 1
FINAL_STATES = (
    "completed", "failed", "cancelled", "stopped", "timeout", "preempted", "out_of_memory",
    "node_fail", "boot_fail", "deadline",
)  # fmt: skip
STATES = ("running", *FINAL_STATES)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SHARED = {0: "multi_user", 1: "none", 2: "single_user"}
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


def any_number(value: Any) -> Any:
    _require(type(value) in {int, float})
    number(abs(value))
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
    """Check an object: keys match in any case, nulls and unknown fields are ignored."""

    def check(value: Any) -> Any:
        _require(type(value) is dict)
        values = by_name(value, fields)
        if missing := set(required) - set(values):
            raise Invalid(*missing)
        return {name: _named(name, fields[name], item) for name, item in values.items()}

    return check


def by_name(value: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the values of some fields by their names in the contract."""
    spellings = {name.lower(): name for name in names}
    values: dict[str, Any] = {}
    for key, item in value.items():
        name = key if key in names else spellings.get(key.lower())
        if name in values and item is not None:
            raise Invalid(key)
        if name is not None and item is not None:
            values[name] = item
    return values


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
_UNIT = record({"base": text(), "prefix": text()}, "base")


def unit(value: Any) -> Any:
    if type(value) is not dict:
        return text()(value)
    parts = _UNIT(value)
    return parts.get("prefix", "") + parts["base"]


def final_state(value: Any) -> Any:
    """Understand the words of Slurm, in any case."""
    _require(type(value) is str)
    word = value.lower()
    word = "cancelled" if word.startswith("cancelled by ") or word == "revoked" else word
    return one_of(*FINAL_STATES)(word)


def running(value: Any) -> Any:
    _require(type(value) is str)
    return one_of("running", "")(value.lower())


def energy(value: Any) -> Any:
    return float(any_number(value)) or None


STATISTICS = record({"unit": unit, "avg": number, "min": number, "max": number})
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
        "exclusive": integer(0, 3),
        "shared": optional(one_of(*SHARED.values()), ""),
        "submitTime": _COUNT,
        "requestedMemory": _COUNT,
        "energy": energy,
        "energyFootprint": table(any_number),
        "footprint": table(any_number),
        "monitoringStatus": integer(0, 3),
        "jobState": running,
        "concurrentJobs": lambda value: value,
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
    "jobState": final_state,
    "metaData": table(text()),
}


def job(value: Any) -> dict[str, Any]:
    """Check the body of start_job."""
    checked: dict[str, Any] = _JOB(value)
    hosts = [resource["hostname"] for resource in checked["resources"]]
    if len(set(hosts)) < len(hosts):
        raise Invalid("resources")
    if checked.get("numNodes", len(hosts)) != len(hosts):
        raise Invalid("numNodes")
    reported = checked.get("exclusive")
    exclusive = 2 if reported == 3 else reported
    shared = checked.get("shared")
    if shared is not None:
        [meant] = [number for number, word in SHARED.items() if word == shared]
        if exclusive not in {None, meant}:
            raise Invalid("shared")
        exclusive = meant
    exclusive = 1 if exclusive is None else exclusive
    return {**checked, "exclusive": exclusive, "shared": SHARED[exclusive]}


_END = record({"stopTime": integer(1), "jobState": one_of(*FINAL_STATES)})
stop_by_id = record(_STOP, "stopTime", "jobState")
stop = record(_STOP, "jobId", "stopTime", "jobState")
delete = record({name: _STOP[name] for name in ("jobId", "cluster", "startTime")}, "jobId")
tags = array(record(TAG, "type", "name"))
_EDITS = table(lambda value: None if value is None else text()(value))


def edit_meta(value: Any) -> dict[str, Any]:
    """Check the body of edit_meta, in one of its three forms."""
    _require(type(value) is dict)
    edits = by_name(value, ["metaData"]).get("metaData")
    if edits is None:
        edits = {key: item for key, item in value.items() if key.lower() != "metadata"}
        if not edits:
            raise Invalid("metaData")
        names = {key.lower(): key for key in edits}
        if {"key", "value"} <= names.keys() and type(edits[names["key"]]) is str:
            edits = {edits[names["key"]]: edits[names["value"]]}
    return {"metaData": _named("metaData", _EDITS, edits)}


def correct(value: Any) -> dict[str, Any]:
    """Check the body of correct_job."""
    checked: dict[str, Any] = _END(value)
    if not checked:
        raise Invalid("jobState")
    return checked
