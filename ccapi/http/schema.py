"""The base of the contract's schemas, and the schema that every error has."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

from flask import current_app
from marshmallow import RAISE, Schema, ValidationError, fields, post_load, pre_load

from ccapi.http import request_log
from ccapi.http.fields import describe
from ccapi.model.rules import match_keys


class ContractSchema(Schema):
    """An object of the contract: null means "not given", and keys match whatever their case.

    Unknown keys are ignored and reported, unless the settings refuse them. `dropped` lists keys
    that clients send and nobody needs.

    `definition` is its name in the API's document, `example` what the page sends, and
    `json_schema` replaces what the document would say.
    `also_required` lists keys that a request must have although the contract's document does
    not say so.
    """

    definition: ClassVar[str] = ""
    example: ClassVar[Mapping[str, Any] | None] = None
    json_schema: ClassVar[Mapping[str, Any] | None] = None
    also_required: ClassVar[tuple[str, ...]] = ()
    dropped: ClassVar[frozenset[str]] = frozenset()
    error_messages = {  # noqa: RUF012 - marshmallow's declaration
        "unknown": "is not known here",
        "type": "must be an object",
    }

    class Meta:
        unknown = RAISE

    def build(self, values: dict[str, Any]) -> Any:
        """Return what views get for the checked values; raises ValidationError."""
        return values

    def load(self, data: Any, **options: Any) -> Any:
        """Check data as marshmallow does, but faster if it is a correct object.

        Each value passes through its field. Missing, unknown, null and wrong values are left
        to marshmallow. It saves 70 us of the 400 us CPU of a start with four nodes.
        """
        if type(data) is not dict or self.many or not data.keys() >= self._required_keys:
            return super().load(data, **options)
        try:
            values = {
                name: field.deserialize(data[key], key, data)
                for key, (name, field) in self.fields_by_key.items()
                if data.get(key) is not None
            }
            if len(values) == len(data):
                return self.build(values)
        except ValidationError:
            pass  # marshmallow finds all that is wrong.
        return super().load(data, **options)

    @cached_property
    def fields_by_key(self) -> Mapping[str, tuple[str, fields.Field[Any]]]:
        """Return each field, and its name here, by its key in JSON."""
        return {field.data_key or name: (name, field) for name, field in self.load_fields.items()}

    @cached_property
    def _required_keys(self) -> set[str]:
        required = {key for key, (_, field) in self.fields_by_key.items() if field.required}
        return required.union(self.also_required)

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
        return match_keys(data, self._known_keys)

    @cached_property
    def _known_keys(self) -> frozenset[str]:
        return frozenset(self.fields_by_key) | self.dropped

    @pre_load
    def _translate(self, data: Any, **_: Any) -> Any:
        if not isinstance(data, dict):
            return data
        values, unknown = self.translate(data)
        values = {key: value for key, value in values.items() if key not in self.dropped}
        if unknown:
            if current_app.config["REFUSE_UNKNOWN_FIELDS"]:
                raise ValidationError({key: ["is not known here"] for key in unknown})
            request_log.current().ignored_fields.update(dict.fromkeys(unknown))
        missing = [key for key in self.also_required if key not in values]
        if missing:
            raise ValidationError({key: ["is required"] for key in missing})
        return values

    @post_load
    def _build(self, values: dict[str, Any], **_: Any) -> Any:
        return self.build(values)


class QuerySchema(ContractSchema):
    """A query string: unknown parameters are errors, for a misspelt filter must not list all."""

    def translate(self, data: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return the parameters unchanged; marshmallow finds unknown ones."""
        return dict(data), []


class ErrorResponse(ContractSchema):
    """The body of every error."""

    definition = "api.ErrorResponse"
    status = fields.String(metadata=describe("Reason phrase of the HTTP status"))
    error = fields.String(metadata=describe("What is wrong and what to do"))
