"""The base of the contract's schemas, the types of their fields, and the body of errors.

In a body, types are strict: "12" and 1.0 are not integers. ccapi/model/rules.py has the rules.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar

from flask import current_app
from marshmallow import RAISE, Schema, ValidationError, fields, pre_load

from ccapi.http import request_log
from ccapi.model import rules
from ccapi.model.rules import Rule

# A refusal names so many mistakes; the check of a list ends at the next one.
MAX_MISTAKES = 10
_BOOLEANS = {"": True, "true": True, "1": True, "false": False, "0": False}
_DIGITS = re.compile(r"[0-9]{1,40}")


class ContractSchema(Schema):
    """An object of the contract: null means "not given", and keys match whatever their case.

    Unknown keys are ignored and reported, unless the settings refuse them. `definition` is its
    name in the API's document, `example` what the page sends, and `json_schema` replaces what
    the document would say. `dropped` lists keys that clients send and nobody needs.
    `also_required` lists keys that a request must have although the contract's document does
    not say so.
    """

    definition: ClassVar[str] = ""
    example: ClassVar[Mapping[str, Any] | None] = None
    json_schema: ClassVar[Mapping[str, Any] | None] = None
    also_required: ClassVar[tuple[str, ...]] = ()
    dropped: ClassVar[frozenset[str]] = frozenset()
    error_messages = {  # noqa: RUF012 - marshmallow's declaration
        "unknown": "is unknown",
        "type": "must be an object",
    }

    class Meta:
        unknown = RAISE

    @cached_property
    def fields_by_key(self) -> Mapping[str, tuple[str, fields.Field[Any]]]:
        """Return each field, and its name here, by its key in JSON."""
        return {field.data_key or name: (name, field) for name, field in self.load_fields.items()}

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Replace marshmallow's messages."""
        field_obj.error_messages["required"] = "is required"
        field_obj.error_messages["invalid"] = "must be an array"
        if isinstance(field_obj, fields.Nested):
            field_obj.error_messages["type"] = "must be an object"

    def translate(self, data: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return a body's values by their keys in the contract, and its unknown keys.

        Raises InvalidInput for two spellings of one key.
        """
        return rules.match_keys(data, self.known_keys)

    @cached_property
    def known_keys(self) -> frozenset[str]:
        """Return the keys that the body of a request may have."""
        return frozenset(self.fields_by_key) | self.dropped

    def known_fields(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return a body's values by their keys in the contract, and report unknown keys.

        Raises InvalidInput, and ValidationError where the settings refuse unknown keys.
        """
        values, unknown = self.translate(data)
        if unknown:
            if current_app.config["REFUSE_UNKNOWN_FIELDS"]:
                named = unknown[: MAX_MISTAKES + 1]
                raise ValidationError({key: ["is unknown"] for key in named})
            request_log.current().ignored_fields.update(dict.fromkeys(unknown))
        return {key: value for key, value in values.items() if key not in self.dropped}

    @pre_load
    def _translate(self, data: Any, **_: Any) -> Any:
        if not isinstance(data, dict):
            return data
        values = self.known_fields(data)
        missing = [key for key in self.also_required if key not in values]
        if missing:
            raise ValidationError({key: ["is required"] for key in missing})
        return values


class QuerySchema(ContractSchema):
    """A query string; unknown parameters are errors, or a typo in a filter would list all jobs."""

    def translate(self, data: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return the parameters unchanged; marshmallow finds unknown ones."""
        return dict(data), []


def describe(description: str, **properties: Any) -> dict[str, Any]:
    """Return the metadata of a field: what the API's document says of it."""
    return {"description": description, **properties}


def parameter(description: str, example: object, **properties: Any) -> dict[str, Any]:
    """Return the metadata of a query parameter.

    The example is text, because the page would fill its form with one of its own.
    """
    return describe(f"{description}. Example: {example}", **properties)


class RuleField(fields.Field[Any]):
    """A field whose value must not violate a rule."""

    def __init__(self, rule: Rule, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rule = rule

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if (violation := self.rule.violation(value)) is not None:
            raise ValidationError(violation)
        return value


class Integer(RuleField, fields.Integer):
    """An integer."""


class Count(Integer):
    """An integer of at least 1, where 0 means "not given"."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        return super()._deserialize(value, *args, **kwargs) or None


class Number(RuleField, fields.Float):
    """An integer or a float."""


class OptionalNumber(Number):
    """A number where 0 means "not given"."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        return super()._deserialize(value, *args, **kwargs) or None


class Text(RuleField, fields.String):
    """A string."""


class OptionalText(Text):
    """A string where the empty one means "not given"."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        return super()._deserialize(value, *args, **kwargs) or None


class IntegerList(RuleField, fields.List[int]):
    """A list of integers."""

    def __init__(self, rule: Rule, **kwargs: Any) -> None:
        super().__init__(rule, fields.Integer(), **kwargs)


class TextList(RuleField, fields.List[str]):
    """A list of strings."""

    def __init__(self, rule: Rule, **kwargs: Any) -> None:
        super().__init__(rule, fields.String(), **kwargs)


class TextMap(fields.Dict):
    """An object whose values are strings or, in an edit, null to remove a key."""

    def __init__(self, *, nullable_values: bool = False, **kwargs: Any) -> None:
        super().__init__(values=fields.String(), **kwargs)
        self._nullable_values = nullable_values

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValidationError("must be an object of strings")
        _raise_first(
            (key, rules.TEXT.violation(key) or self._violation(item)) for key, item in value.items()
        )
        return dict(value)

    def _violation(self, item: Any) -> str | None:
        if item is None and self._nullable_values:
            return None
        return rules.META_VALUE.violation(item)


class NumberMap(fields.Dict):
    """An object whose values are numbers; the empty one means "not given"."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(values=fields.Float(), **kwargs)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValidationError("must be an object of numbers")
        _raise_first(
            (key, rules.TEXT.violation(key) or rules.NUMBER.violation(item))
            for key, item in value.items()
        )
        return dict(value) or None


class Objects(fields.List[Any]):
    """An array of objects of one schema."""

    def __init__(
        self, schema: ContractSchema, *, max_items: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(fields.Nested(schema), **kwargs)
        self._schema = schema
        self._max_items = max_items

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> list[Any]:
        if type(value) is not list:
            raise ValidationError("must be an array of objects")
        if self._max_items is not None and len(value) > self._max_items:
            raise ValidationError(f"must have at most {self._max_items} objects")
        return [*_load_all(self._schema, enumerate(value)).values()]


class ObjectMap(fields.Dict):
    """An object whose values are objects of one schema."""

    def __init__(self, schema: ContractSchema, **kwargs: Any) -> None:
        super().__init__(values=fields.Nested(schema), **kwargs)
        self._schema = schema

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise ValidationError("must be an object of objects")
        _raise_first((key, rules.TEXT.violation(key)) for key in value)
        return _load_all(self._schema, value.items())


def _raise_first(violations: Iterable[tuple[str, str | None]]) -> None:
    """Raise a ValidationError of the first violations by key, if there are any."""
    wrong = ((key, [violation]) for key, violation in violations if violation is not None)
    if mistakes := dict(islice(wrong, MAX_MISTAKES + 1)):
        raise ValidationError(mistakes)


def _load_all(schema: ContractSchema, items: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """Load objects by their keys or indices; raises ValidationError of the first mistakes."""
    loaded: dict[Any, Any] = {}
    mistakes: dict[Any, Any] = {}
    for key, item in items:
        try:
            loaded[key] = schema.load(item)
        except ValidationError as error:
            mistakes[key] = error.normalized_messages()
            if len(mistakes) > MAX_MISTAKES:
                break
    if mistakes:
        raise ValidationError(mistakes)
    return loaded


class EnumField(fields.Field[str]):
    """One of some members of an enumeration, which the document defines under a name."""

    enum: ClassVar[type[StrEnum]]
    definition: ClassVar[str]

    def __init__(self, allowed: Iterable[StrEnum], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._allowed = tuple(allowed)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if type(value) is not str or value not in self._allowed:
            raise ValidationError(f"must be {' or '.join(self._allowed)}")
        return value


class QueryInteger(fields.Integer):
    """An integer of at least 1."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        number = int(value) if _DIGITS.fullmatch(value) else 0
        if not 1 <= number <= rules.MAX_INTEGER:
            raise ValidationError(f"must be an integer from 1 to {rules.MAX_INTEGER}")
        return number


class QueryBoolean(fields.Boolean):
    """true, false, 1 or 0 in any case; without a value it is true."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        try:
            return _BOOLEANS[value.lower()]
        except KeyError:
            raise ValidationError("must be true, false, 1 or 0") from None


class QueryChoice(fields.String):
    """One of a few words."""

    def __init__(self, choices: Iterable[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._choices = tuple(choices)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if value not in self._choices:
            raise ValidationError(f"must be {' or '.join(self._choices)}")
        return value


class QueryChoices(fields.String):
    """One of some words; the parameter may be repeated."""

    is_repeatable = True

    def __init__(self, choices: Iterable[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._choices = tuple(choices)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if not set(value) <= set(self._choices):
            raise ValidationError(f"must be {' or '.join(self._choices)}; it may be repeated")
        return list(value)


class QueryNames(fields.String):
    """Some of the known names, separated by commas; a repeated one counts once."""

    def __init__(self, known: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._known = known

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        names = tuple(dict.fromkeys(value.split(",")))
        if not set(names) <= set(self._known):
            raise ValidationError(f"must be a comma-separated list of: {', '.join(self._known)}")
        return names


class QueryText(Text):
    """A string of Unicode; what a body may contain can be found by a query, too."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        text: str = super()._deserialize(value, *args, **kwargs)
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValidationError("must be Unicode, in UTF-8") from None
        return text


class Repeatable(fields.Field[Any]):
    """A mixin for a parameter that may be repeated: a tuple of its values, each once."""

    is_repeatable = True

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        deserialize = super()._deserialize
        return tuple(dict.fromkeys(deserialize(one, *args, **kwargs) for one in value))


class QueryIntegers(Repeatable, QueryInteger):
    """Integers of at least 1."""


class QueryTexts(Repeatable, QueryText):
    """Strings of printable Unicode."""


class ErrorResponse(ContractSchema):
    """The body of every error."""

    definition = "api.ErrorResponse"
    status = fields.String(metadata=describe("Reason phrase of the HTTP status"))
    error = fields.String(metadata=describe("What is wrong and what to do"))
