"""The rules that a setting's value must obey."""

import json
import math
import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from string import Formatter
from typing import Any

from marshmallow import ValidationError, fields

from ccapi.config.database_url import EXPECTED, MASK, hide, is_database_url, is_suspicious

Network = IPv4Network | IPv6Network


class Networks(tuple[Network, ...]):
    """Networks; as text they are as in the settings."""

    __slots__ = ()

    def __str__(self) -> str:
        """Return the networks with commas between."""
        return ", ".join(map(str, self))


NO_NETWORKS = Networks()


class Names(tuple[str, ...]):
    """Names; as text they are as in the settings."""

    __slots__ = ()

    def __str__(self) -> str:
        """Return the names with commas between."""
        return ", ".join(self)


NO_NAMES = Names()
LINK_FIELDS = frozenset(
    (
        "id", "jobId", "cluster", "user", "project", "host", "hosts", "from", "to", "from_ms",
        "to_ms",
    )
)  # fmt: skip


class Links(tuple[tuple[str, str], ...]):
    """The names of links and templates of their addresses; as text they are as in the settings."""

    __slots__ = ()

    def __str__(self) -> str:
        """Return a line for each link."""
        return "\n".join(f"{name} {template}" for name, template in self)


NO_LINKS = Links()


def _links(text: str) -> Links | None:
    """Return the links of some lines, None if one is wrong."""
    links = []
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, template = line.rpartition(" ")
        try:
            fields = {field for _, field, *_ in Formatter().parse(template) if field is not None}
        except ValueError:
            return None
        is_address = template.startswith(("https://", "http://", "/")) and template.isprintable()
        if not (name.strip() and is_address and fields <= LINK_FIELDS):
            return None
        links.append((name.strip(), template))
    return Links(links)


class Rule(fields.Field[Any]):
    """A marshmallow field that coerces nothing.

    `expected` describes a valid value in words, `is_valid` tests one, and `convert` returns
    what the settings hold. No message shows a value that `is_secret`.
    """

    def __init__(
        self,
        expected: str,
        is_valid: Callable[[Any], bool],
        convert: Callable[[Any], Any] = lambda value: value,
        *,
        is_secret: bool = False,
    ) -> None:
        super().__init__(required=True)
        missing = f"expected {expected}, got nothing"
        self.error_messages |= {"required": missing, "null": missing}
        self.expected, self.is_valid, self.convert = expected, is_valid, convert
        self.is_secret = is_secret

    def _deserialize(self, value: object, *_: object, **__: object) -> object:
        if not self.is_valid(value):
            secret = self.is_secret and isinstance(value, str) and value
            raise unexpected(self.expected, MASK if secret else value)
        return self.convert(value)


def unexpected(expected: str, value: object) -> ValidationError:
    """Return the error for a value that does not meet what is expected, to be raised."""
    return ValidationError(f"expected {expected}, got {display(value)}")


def display(value: object) -> str:
    """Return an invalid value as part of a line, without secrets."""
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "an array"
    text = json.dumps(hide(value) if isinstance(value, str) else value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def integer(min: int, max: float = math.inf) -> Rule:  # noqa: A002 - as everywhere else
    """Return the rule for an integer; `true` is not one."""
    limits = f"of at least {min}" if max == math.inf else f"from {min} to {max}"
    return Rule(f"an integer {limits}", lambda value: type(value) is int and min <= value <= max)


def seconds(min: float, max: float) -> Rule:  # noqa: A002 - as in integer()
    """Return the rule for a time in seconds."""
    return Rule(
        f"seconds from {min} to {max}",
        lambda value: type(value) in (int, float) and min <= value <= max,
        float,
    )


SHARE = Rule(
    "a share from 0.01 to 1",
    lambda value: type(value) in (int, float) and 0.01 <= value <= 1,
    float,
)


def one_of(*choices: str) -> Rule:
    """Return the rule for one of some words."""
    return Rule(f"one of {', '.join(choices)}", choices.__contains__)


def _networks(text: str) -> Networks | None:
    """Return the networks of a list, None if one is wrong."""
    try:
        return Networks(ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError:
        return None


LINE = Rule("a line of text", lambda v: isinstance(v, str) and v != "" and v.isprintable())
LINKS = Rule(
    "lines of a name and an address with fields such as {jobId}",
    lambda value: isinstance(value, str) and _links(value) is not None,
    _links,
)
_HEADER = re.compile(r"([A-Za-z][A-Za-z0-9-]*)?")
NAMES = Rule(
    "names with commas between",
    lambda value: isinstance(value, str) and (value == "" or value.isprintable()),
    lambda value: Names(name.strip() for name in value.split(",") if name.strip()),
)
HEADER = Rule(
    "the name of a header, or nothing",
    lambda value: isinstance(value, str) and _HEADER.fullmatch(value) is not None,
)
BOOLEAN = Rule("true or false", lambda value: type(value) is bool)
# A URL in the place of a path is a mistake, and may contain a password.
PATH = Rule("a path", lambda v: LINE.is_valid(v) and not is_suspicious(v), Path)
DATABASE_URL = Rule(EXPECTED, is_database_url, is_secret=True)
NETWORKS = Rule(
    "addresses or networks with commas between, such as 10.0.0.7, 10.1.0.0/16",
    lambda value: isinstance(value, str) and _networks(value) is not None,
    _networks,
)
ARCHIVE_VERSION = Rule("3 or 1", lambda value: type(value) is int and value in (1, 3))
# PostgreSQL rounds a timeout below a millisecond to 0, which means "no limit".
TIMEOUT = seconds(0.001, 86_400)
