"""Fields that take exactly what the contract means and say what they expect.

JSON types are strict: "12" is no integer and 1.0 neither. What PostgreSQL could not
store (NUL characters, integers beyond 64 bits) ends here.
"""

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from marshmallow import ValidationError, fields

from ccapi.http import pagination as cursor
from ccapi.model.job import FINAL_STATES, JobState, Range, Tag
from ccapi.model.rules import MAX_INTEGER


class Integer(fields.Integer):
    """An integer of `least` to `most`; documented bounds go into metadata."""

    def __init__(self, *, least: int = 0, most: int = MAX_INTEGER, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._least, self._most = least, most

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if type(value) is not int or not self._least <= value <= self._most:
            raise ValidationError(f"must be an integer from {self._least} to {self._most}")
        return value


class Count(Integer):
    """An integer of at least 1, where 0 means "not given"."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        return super()._deserialize(value, *args, **kwargs) or None


class Number(fields.Float):
    """A number of at least 0."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if type(value) not in {int, float} or value < 0:
            raise ValidationError("must be a number of at least 0")
        if type(value) is int and value > MAX_INTEGER:
            raise ValidationError(f"must be at most {MAX_INTEGER} when it is an integer")
        return value


def _check_text(value: Any, least: int = 0, most: int | None = None) -> str:
    if type(value) is not str:
        raise ValidationError("must be a string")
    if "\0" in value:
        raise ValidationError("must not contain a NUL character")
    if len(value) < least or (most is not None and len(value) > most):
        expected = f"of {least} to {most} characters" if most else "that is not empty"
        raise ValidationError(f"must be a string {expected}")
    return value


class Text(fields.String):
    """A string of `least` to `most` characters."""

    def __init__(self, *, least: int = 0, most: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._least, self._most = least, most

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        return _check_text(value, self._least, self._most)


class OptionalText(Text):
    """A string where the empty one means "not given"."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        return super()._deserialize(value, *args, **kwargs) or None


class Pattern(fields.String):
    """A string that a pattern matches as a whole."""

    def __init__(self, pattern: re.Pattern[str], expected: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._pattern, self._expected = pattern, expected

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if type(value) is not str or not self._pattern.fullmatch(value):
            raise ValidationError(self._expected)
        return value


class IntegerList(fields.List[int]):
    """A list of integers of at least 0, checked at C speed."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(fields.Integer(), **kwargs)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if type(value) is not list:
            raise ValidationError("must be an array of integers")
        if value and (set(map(type, value)) != {int} or not _in_range(value)):
            raise ValidationError(f"must hold only integers from 0 to {MAX_INTEGER}")
        return value


def _in_range(values: Sequence[int]) -> bool:
    return min(values) >= 0 and max(values) <= MAX_INTEGER


class TextList(fields.List[str]):
    """A list of strings."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(fields.String(), **kwargs)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if type(value) is not list:
            raise ValidationError("must be an array of strings")
        for item in value:
            _check_text(item)
        return value


class TextMap(fields.Dict):
    """An object whose values are strings, or, in an edit, null for a key to remove."""

    def __init__(self, *, removable: bool = False, **kwargs: Any) -> None:
        super().__init__(values=fields.String(), **kwargs)
        self._removable = removable

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValidationError("must be an object of strings")
        wrong: dict[str, Any] = {}
        for key, item in value.items():
            try:
                _check_text(key)
                if item is not None or not self._removable:
                    _check_text(item)
            except ValidationError as error:
                wrong[key.replace("\0", "\\0")] = error.messages
        if wrong:
            raise ValidationError(wrong)
        return dict(value)


class State(fields.Field[str]):
    """A job's state: one of `allowed`."""

    def __init__(self, *allowed: JobState, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._allowed = frozenset(allowed)
        self._expected = f"must be {' or '.join(allowed)}"

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if type(value) is not str or value not in self._allowed:
            raise ValidationError(self._expected)
        return value


def final_state(**kwargs: Any) -> State:
    """Make the field of a state that ends a job."""
    return State(*FINAL_STATES, **kwargs)


_BOOLEANS = {"": True, "true": True, "1": True, "false": False, "0": False}
_DIGITS = re.compile(r"[0-9]{1,40}")


class QueryInteger(fields.Integer):
    """An integer of at least 1 in a query string."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        number = int(value) if _DIGITS.fullmatch(value) else 0
        if not 1 <= number <= MAX_INTEGER:
            raise ValidationError(f"must be an integer from 1 to {MAX_INTEGER}")
        return number


class QueryBoolean(fields.Boolean):
    """true, false, 1 or 0 in any case; present without a value it is true."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        try:
            return _BOOLEANS[value.lower()]
        except KeyError:
            raise ValidationError("must be true, false, 1 or 0") from None


class QueryCursor(fields.String):
    """What a list's nextCursor said; empty at the beginning."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        found = cursor.parse(value)
        if found is None:
            raise ValidationError("must be a nextCursor that a list answered, or empty")
        return found


class QueryChoice(fields.String):
    """One of a few words."""

    def __init__(self, *words: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._words = words

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if value not in self._words:
            raise ValidationError(f"must be {' or '.join(self._words)}")
        return value


class QueryFields(fields.String):
    """Names out of `known`, with commas between them; each counts once."""

    def __init__(self, known: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._known = known

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        names = tuple(dict.fromkeys(value.split(",")))
        if not set(names) <= set(self._known):
            raise ValidationError(f"must be some of {','.join(self._known)}, with commas between")
        return names


class QueryWords(fields.String):
    """One of some words; it may be given several times."""

    is_multiple = True

    def __init__(self, allowed: type[StrEnum], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._allowed = allowed

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if not all(item in set(self._allowed) for item in value):
            raise ValidationError(f"must be {' or '.join(self._allowed)}; it may be repeated")
        return list(value)


class QueryRange(fields.String):
    """FROM-TO, both inclusive, in some unit."""

    def __init__(self, unit: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._unit = unit

    _RANGE = re.compile(r"([0-9]{1,40})-([0-9]{1,40})")

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        found = self._RANGE.fullmatch(value)
        start, end = map(int, found.groups()) if found else (1, 0)
        if start > end or end > MAX_INTEGER:
            raise ValidationError(f"must be FROM-TO in {self._unit}, FROM not after TO")
        return Range(start, end)


class QueryText(Text):
    """A text in a query string, which must be Unicode."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        text = super()._deserialize(value, *args, **kwargs)
        if not text.isprintable():
            raise ValidationError("must be printable Unicode, in UTF-8")
        return text


class QueryTag(QueryText):
    """TYPE:NAME of a tag; the first colon divides."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        type_, colon, name = super()._deserialize(value, *args, **kwargs).partition(":")
        if not (type_ and colon and name):
            raise ValidationError("must be TYPE:NAME")
        return Tag(type_, name)
