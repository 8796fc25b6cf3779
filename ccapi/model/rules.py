"""The rules of a job's fields, written once: the API and imports from archives share them.

A rule says with `violation` what a value must be, so that both report the same problem.
"""

import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Protocol

from ccapi.errors import InvalidInput

# 9999-12-31T23:59:59Z, the last second of RFC 3339.
MAX_EPOCH_SECOND = 253_402_300_799
# PostgreSQL's bigint.
MAX_INTEGER = 2**63 - 1
MAX_NAME_LENGTH = 255
# Limits of what a job may have, generous: they only bound the memory of who reads it. Slurm's
# scripts have 4 MiB by default.
MAX_HOSTS, MAX_HWTHREADS, MAX_ACCELERATORS = 100_000, 65_536, 1_024
MAX_TAGS = 1_000
MAX_META_VALUE_LENGTH, MAX_META_DATA_LENGTH = 4 * 2**20, 8 * 2**20
_MAX_CONFIGURATION_LENGTH = 4_096
# A cluster's name becomes a directory of the archive: no slash, and no leading dot.
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
HOSTNAME_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,255}")


class Rule(Protocol):
    """What a field's value must be; `json_type` is the type that JSON is parsed to."""

    json_type: ClassVar[type]

    def violation(self, value: Any) -> str | None:
        """Return what the value must be, None if it is that."""
        ...


@dataclass(frozen=True, slots=True)
class IntegerRule:
    """An integer from `min` to `max`; booleans and floats are not integers."""

    min: int = 0
    max: int = MAX_INTEGER
    json_type: ClassVar[type] = int

    def violation(self, value: Any) -> str | None:
        """Return what the value must be, None if it is that."""
        if type(value) is int and self.min <= value <= self.max:
            return None
        return f"must be an integer from {self.min} to {self.max}"


@dataclass(frozen=True, slots=True)
class NumberRule:
    """An integer or a finite float, of at least 0 unless it may be negative."""

    may_be_negative: bool = False
    json_type: ClassVar[type] = float

    def violation(self, value: Any) -> str | None:
        """Return what the value must be, None if it is that."""
        min_value = -sys.float_info.max if self.may_be_negative else 0
        if type(value) not in {int, float} or not min_value <= value <= sys.float_info.max:
            return f"must be a number{'' if self.may_be_negative else ' of at least 0'}"
        if type(value) is int and abs(value) > MAX_INTEGER:
            return f"must be at most {MAX_INTEGER} when it is an integer"
        return None


@dataclass(frozen=True, slots=True)
class TextRule:
    """A string of `min_length` to `max_length` characters, without NUL as PostgreSQL wants."""

    min_length: int = 0
    max_length: int | None = None
    json_type: ClassVar[type] = str

    def violation(self, value: Any) -> str | None:
        """Return what the value must be, None if it is that."""
        if type(value) is not str:
            return "must be a string"
        if "\0" in value:
            return "must not contain a NUL character"
        if len(value) < self.min_length and self.max_length is None:
            return "must be a non-empty string"
        if self.max_length is not None and not self.min_length <= len(value) <= self.max_length:
            return f"must be a string of {self.min_length} to {self.max_length} characters"
        return None


@dataclass(frozen=True, slots=True)
class PatternRule:
    """A string that a pattern matches as a whole; `expected` says so in words."""

    pattern: re.Pattern[str]
    expected: str
    json_type: ClassVar[type] = str

    def violation(self, value: Any) -> str | None:
        """Return what the value must be, None if it is that."""
        is_match = type(value) is str and self.pattern.fullmatch(value) is not None
        return None if is_match else self.expected


@dataclass(frozen=True, slots=True)
class IntegerListRule:
    """A list of integers of at least 0; a job may have a hundred thousand hardware threads."""

    json_type: ClassVar[type] = list

    def violation(self, value: Any) -> str | None:
        """Return what the value must be, None if it is that; checks at C speed."""
        if type(value) is not list:
            return "must be an array of integers"
        if len(value) > MAX_HWTHREADS:
            return f"must have at most {MAX_HWTHREADS} integers"
        if value and (set(map(type, value)) != {int} or min(value) < 0 or max(value) > MAX_INTEGER):
            return f"must contain only integers from 0 to {MAX_INTEGER}"
        return None


@dataclass(frozen=True, slots=True)
class TextListRule:
    """A list of names, each of at most 255 characters."""

    json_type: ClassVar[type] = list

    def violation(self, value: Any) -> str | None:
        """Return what the value or its first wrong item must be, None if all is right."""
        if type(value) is not list:
            return "must be an array of strings"
        if len(value) > MAX_ACCELERATORS:
            return f"must have at most {MAX_ACCELERATORS} strings"
        return next(filter(None, map(_DEVICE.violation, value)), None)


@dataclass(frozen=True, slots=True)
class NumberMapRule:
    """An object whose values are numbers."""

    json_type: ClassVar[type] = dict

    def violation(self, value: Any) -> str | None:
        """Return what the value or its first wrong item must be, None if all is right."""
        if type(value) is not dict:
            return "must be an object of numbers"
        for name, number in value.items():
            if (violation := TEXT.violation(name)) is not None:
                return violation
            if (violation := NUMBER.violation(number)) is not None:
                return f"{name:.40}: {violation}"
        return None


_NAME_WORDS = "must be 1 to 64 letters, digits, '.', '_' and '-', beginning with a letter or digit"
TEXT = TextRule()
JOB_ID = IntegerRule(min=1)
EPOCH_SECOND = IntegerRule(min=1, max=MAX_EPOCH_SECOND)
COUNT = IntegerRule()
EXCLUSIVE = IntegerRule(max=2)
MONITORING_STATUS = IntegerRule(max=3)
USER = TAG = TextRule(min_length=1, max_length=MAX_NAME_LENGTH)
PROJECT = PARTITION = _DEVICE = TextRule(max_length=MAX_NAME_LENGTH)
CONFIGURATION = TextRule(max_length=_MAX_CONFIGURATION_LENGTH)
META_VALUE = TextRule(max_length=MAX_META_VALUE_LENGTH)
CLUSTER = PatternRule(NAME_PATTERN, _NAME_WORDS)
SUB_CLUSTER = PatternRule(re.compile(rf"(?:{NAME_PATTERN.pattern})?"), _NAME_WORDS)
HOSTNAME = PatternRule(HOSTNAME_PATTERN, "must be 1 to 255 letters, digits, '.', '_' and '-'")
HWTHREADS = IntegerListRule()
ACCELERATORS = TextListRule()
STATISTIC = NumberRule()
NUMBER = NumberRule(may_be_negative=True)
FOOTPRINT = NumberMapRule()


def is_name(text: str) -> bool:
    """Return whether a cluster or sub-cluster may have this name."""
    return NAME_PATTERN.fullmatch(text) is not None


def count_hosts(hosts: Sequence[str], num_nodes: int | None) -> int:
    """Return the number of a job's hosts.

    Raises InvalidInput for no host or too many, a host that appears twice, and a different
    numNodes.
    """
    if not hosts:
        raise InvalidInput.of("resources", "must have at least one host")
    if len(hosts) > MAX_HOSTS:
        raise InvalidInput.of("resources", f"must have at most {MAX_HOSTS} hosts")
    if len(set(hosts)) != len(hosts):
        [(twice, _)] = Counter(hosts).most_common(1)
        raise InvalidInput.of("resources", f"must have each host once; {twice} appears twice")
    if num_nodes not in {None, len(hosts)}:
        expected = f"must be the number of resources, {len(hosts)}, or be left out"
        raise InvalidInput.of("numNodes", expected)
    return len(hosts)


def match_keys(data: Mapping[str, Any], names: frozenset[str]) -> tuple[dict[str, Any], list[str]]:
    """Return an object's values by the names of its fields, and its keys that are none.

    Keys match whatever their case, and null means "not given". Raises InvalidInput for two
    spellings of one name.
    """
    if data.keys() <= names and None not in data.values():
        return dict(data), []
    spellings = _by_lower_case(names)
    keys: dict[str, str] = {}
    ignored: list[str] = []
    for key, value in data.items():
        name = key if key in names else spellings.get(key.lower())
        if value is None:
            continue
        if name is None:
            ignored.append(key)
        elif name in keys:
            raise InvalidInput.of(f"{keys[name]} and {key}", "are the same field; send only one")
        else:
            keys[name] = key
    return {name: data[key] for name, key in keys.items()}, ignored


@cache
def _by_lower_case(names: frozenset[str]) -> dict[str, str]:
    return {name.lower(): name for name in names}
