"""What a setting's value must be, and how a wrong one is shown."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from marshmallow import ValidationError, fields

MASK = "********"
_Check = Callable[[Any], Any]


class Rule(fields.Field[Any]):
    """What a value must be: `expected` in words, `accepts` as a test; nothing is coerced."""

    def __init__(self, expected: str, accepts: _Check, convert: _Check = lambda v: v) -> None:
        super().__init__(required=True)
        nothing = f"expected {expected}, got nothing"
        self.error_messages |= {"required": nothing, "null": nothing}
        self.expected, self.accepts, self.convert = expected, accepts, convert

    def _deserialize(self, value: object, *_: object, **__: object) -> object:
        expect(self.expected, value, is_met=self.accepts(value))
        return self.convert(value)


def expect(expected: str, value: object, *, is_met: bool) -> None:
    """Raise ValidationError unless a value met what is expected of it."""
    if not is_met:
        raise ValidationError(f"expected {expected}, got {shown(value)}")


def shown(value: object) -> str:
    """Show a wrong value within one line and without secrets."""
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "an array"
    text = json.dumps(masked(value) if isinstance(value, str) else value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def whole(minimum: int, maximum: float = math.inf) -> Rule:
    """Rule an integer; true is none."""
    limits = f"of at least {minimum}" if maximum == math.inf else f"from {minimum} to {maximum}"
    return Rule(f"an integer {limits}", lambda n: type(n) is int and minimum <= n <= maximum)


_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
LEVEL = Rule(f"one of {', '.join(_LEVELS)}", _LEVELS.__contains__)
LOG_FORMAT = Rule("one of auto, json, text", ("auto", "json", "text").__contains__)
ACCESS = Rule("one of token, open, off", ("token", "open", "off").__contains__)
LINE = Rule("a line of text", lambda v: isinstance(v, str) and v != "" and v.isprintable())
# A URL in a path's place is a mistake, and may hold a password.
PATH = Rule("a path", lambda v: LINE.accepts(v) and "://" not in v, Path)
# Below a millisecond PostgreSQL would read "no limit".
BRIEF = Rule("seconds from 0 to 60", lambda n: type(n) in (int, float) and 0 <= n <= 60, float)
SECONDS = Rule(
    "seconds from 0.001 to 86400", lambda n: type(n) in (int, float) and 0.001 <= n <= 86_400, float
)


_URL = re.compile(r"postgres(ql)?://([^:@/]*(:[^@/]*)?@)?[^@?]*(\?\w+=[^&]*(&\w+=[^&]*)*)?")
_CONFIDENTIAL = r"(?:\w*password|\w*secret|scram_\w+_key)"


def masked(url: str) -> str:
    """Return a database's URL or keyword/value text with its secrets as asterisks.

    Whatever else holds `://` is masked from there, because libpq's reading is unknown.
    """
    if _URL.fullmatch(url):
        url = re.sub(r"^(\w+://[^:@/]*:)[^@/]*@", rf"\1{MASK}@", url)
        return re.sub(rf"([?&]{_CONFIDENTIAL}=)[^&]*", rf"\1{MASK}", url)
    value = r"(?:'(?:\\.|[^'\\])*'?|(?:\\.|[^\s\\])*)"
    text = re.sub(rf"(\b{_CONFIDENTIAL}\s*=\s*){value}", rf"\1{MASK}", url)
    scheme, mark, _ = text.partition("://")
    return f"{scheme}{mark}{MASK}" if mark else text
