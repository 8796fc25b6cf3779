"""What all of the contract's objects have in common, and how they are checked."""

from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar

from marshmallow import RAISE, Schema, ValidationError, fields, pre_load
from marshmallow.decorators import POST_LOAD


class ContractSchema(Schema):
    """An object of the contract: unknown fields are refused, null means "not given".

    `needed` names fields that a request must have although the contract's document
    does not list them as required.
    """

    needed: ClassVar[tuple[str, ...]] = ()
    error_messages = {  # noqa: RUF012 - marshmallow's declaration
        "unknown": "is not known here",
        "type": "must be an object",
    }

    class Meta:
        """How marshmallow treats what the schema does not name."""

        unknown = RAISE

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Word marshmallow's own messages as ours."""
        field_obj.error_messages["required"] = "is required"
        field_obj.error_messages["invalid"] = "must be an array"
        if isinstance(field_obj, fields.Nested):
            field_obj.error_messages["type"] = "must be an object"

    def load(self, data: Any, **given: Any) -> Any:
        """Check as marshmallow does; an object that is plainly right takes a shorter way.

        Each value goes through its field in both. Whatever else there is to say or to put
        right (unknown, missing and null fields, wrong values) is left to marshmallow.
        """
        if type(data) is not dict or self.many:
            return super().load(data, **given)
        try:
            taken = {
                name: take(data[key], key, data)
                for key, name, take in self._takes
                if data.get(key) is not None
            }
        except ValidationError:
            return super().load(data, **given)
        if len(taken) < len(data) or not data.keys() >= self._must:
            return super().load(data, **given)
        if not self._hooks[POST_LOAD]:
            return taken
        return self._invoke_load_processors(
            POST_LOAD, taken, many=False, original_data=data, partial=None, unknown=RAISE
        )

    @cached_property
    def _ways(self) -> list[tuple[str, str, fields.Field[Any]]]:
        """Return each field with its name in JSON and its name here."""
        return [(field.data_key or name, name, field) for name, field in self.load_fields.items()]

    @cached_property
    def _takes(self) -> list[tuple[str, str, Callable[[Any, str, Any], Any]]]:
        """Return how each field takes a value; `deserialize` adds nothing without validators."""
        return [
            (key, name, field.deserialize if field.validators else field._deserialize)
            for key, name, field in self._ways
        ]

    @cached_property
    def repeatable(self) -> set[str]:
        """Return the names in JSON of what a query string may say several times."""
        return {key for key, _, field in self._ways if getattr(field, "is_multiple", False)}

    @cached_property
    def _must(self) -> set[str]:
        return {*self.needed, *(key for key, _, field in self._ways if field.required)}

    @pre_load
    def _drop_nulls(self, data: Any, **_: Any) -> Any:
        if not isinstance(data, dict):
            return data
        given = {key: value for key, value in data.items() if value is not None}
        missing = [name for name in self.needed if name not in given]
        if missing:
            raise ValidationError({name: ["is required"] for name in missing})
        return given


class Objects(fields.List[Any]):
    """A list of objects, each of which may take the shorter way."""

    def __init__(self, schema: Schema, **kwargs: Any) -> None:
        inner = fields.Nested(schema, error_messages={"null": "must be an object"})
        super().__init__(inner, **kwargs)
        self.schema = schema

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        if type(value) is list:
            try:
                return [self.schema.load(item) for item in value]
            except ValidationError:
                pass  # To be found again, and told with its place.
        return super()._deserialize(value, *args, **kwargs)
