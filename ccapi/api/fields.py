"""Fields of jobs, for bodies and query strings."""

import re
from typing import Any, NamedTuple

from marshmallow import ValidationError, fields

from ccapi.http import pagination
from ccapi.http.schema import (
    EnumField,
    Integer,
    QueryBoolean,
    QueryText,
    Repeatable,
    Text,
    describe,
)
from ccapi.model import rules
from ccapi.model.job import (
    DEFAULT_ORDER,
    FINAL_STATES,
    JobState,
    ListOrder,
    ListPosition,
    Range,
    SortBy,
    Tag,
)
from ccapi.model.rules import MAX_INTEGER

# What the document says of the integers in paths; the examples fill its forms.
PATH_PARAMETERS = {
    "id": {"description": "Database id of the job", "x-example": 1},
    "ts": {"description": "Time, in epoch seconds", "x-example": 1649723812},
}
_SORTS = [*SortBy]
_DAY_SECONDS = 86_400


class State(EnumField):
    """The state of a job."""

    enum = JobState
    definition = "schema.JobState"


def final_state(description: str, *, required: bool = False, **properties: Any) -> State:
    """Make the field of a state that ends a job."""
    metadata = describe(description, **properties)
    return State(FINAL_STATES, data_key="jobState", required=required, metadata=metadata)


def epoch_second(
    key: str, description: str, *, required: bool = False, **properties: Any
) -> Integer:
    """Make the field of a time."""
    metadata = describe(f"{description}, in epoch seconds", **{"example": 1649723812, **properties})
    return Integer(rules.EPOCH_SECOND, data_key=key, required=required, metadata=metadata)


def job_id(*, required: bool = False) -> Integer:
    """Make the field of a job's number in its batch system."""
    metadata = describe("The batch system's number of the job", example=123000)
    return Integer(rules.JOB_ID, data_key="jobId", required=required, metadata=metadata)


def cluster(description: str, *, required: bool = False) -> Text:
    """Make the field of a cluster's name."""
    metadata = describe(description, example="fritz")
    return Text(rules.CLUSTER, required=required, metadata=metadata)


class Cursor(NamedTuple):
    """Where a page begins: after a position in an order; None is the beginning of the list.

    `page_number` is the number of the page, `now` the time at which the walk began, unless the
    order does not depend on it.
    """

    position: ListPosition | None = None
    page_number: int = 1
    order: ListOrder = DEFAULT_ORDER
    now: int | None = None

    def encode(self) -> str:
        """Return the cursor as text; the default order needs half as much."""
        assert self.position is not None
        numbers = (*self.position, self.page_number)
        if self.order == DEFAULT_ORDER:
            return pagination.encode(*numbers)
        sort_by, is_descending = self.order
        return pagination.encode(*numbers, self.now or 0, _SORTS.index(sort_by), is_descending)

    @classmethod
    def decode(cls, text: str) -> "Cursor | None":
        """Read a cursor; None if the text is not one."""
        match pagination.decode(text):
            case (key, id_, number):
                order, now, min_key = DEFAULT_ORDER, None, 1
            case (key, id_, number, now, sort, (0 | 1) as is_descending) if (
                0 <= sort < len(_SORTS) and 1 <= now <= rules.MAX_EPOCH_SECOND
            ):
                order, min_key = ListOrder(_SORTS[sort], bool(is_descending)), -1
            case _:
                return None
        if key < min_key or id_ < 1 or number < 2:
            return None
        return cls(ListPosition(key, id_), number, order, now)


class ListCursor(fields.String):
    """A list's nextCursor; the empty cursor is the beginning of the list."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        cursor = Cursor.decode(value) if value else Cursor()
        if cursor is None:
            raise ValidationError("must be the nextCursor of an earlier page, or empty")
        return cursor


class QuerySort(fields.String):
    """What a list is sorted by, with a minus if the largest value comes first."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        name = value.removeprefix("-")
        if name not in _SORTS:
            raise ValidationError(f"must be {' or '.join(_SORTS)}, or one of these after a minus")
        return ListOrder(SortBy(name), value != name)


class QueryTotal(QueryBoolean):
    """true, false, 1 or 0, or "estimate"; without a value it is true."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        if value == "estimate":
            return value
        try:
            return super()._deserialize(value, *args, **kwargs)
        except ValidationError:
            raise ValidationError("must be true, false, 1, 0 or estimate") from None


class QueryRange(fields.String):
    """FROM-TO, both inclusive, in some unit; a side without a number is open."""

    _RANGE = re.compile(r"(?!-$)([0-9]{0,40})-([0-9]{0,40})")

    def __init__(self, unit: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._unit = unit

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        match = self._RANGE.fullmatch(value)
        lower, upper = (int(match[1] or 0), int(match[2] or MAX_INTEGER)) if match else (1, 0)
        if lower > upper or upper > MAX_INTEGER:
            expected = f"must be FROM-TO in {self._unit}, FROM not after TO; FROM- or -TO is open"
            raise ValidationError(expected)
        return Range(lower, upper)


def resolve_range(time: Range | None, now: int) -> Range:
    """Return a range of time, by default the last 24 hours; an open end is now."""
    lower, upper = time or (now - _DAY_SECONDS, now)
    return Range(lower, max(lower, now) if upper == MAX_INTEGER else upper)


class _QueryTag(QueryText):
    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        type_, colon, name = super()._deserialize(value, *args, **kwargs).partition(":")
        if not (type_ and colon and name):
            raise ValidationError("must be TYPE:NAME")
        return Tag(type_, name)


class QueryTags(Repeatable, _QueryTag):
    """TYPE:NAME of tags; the first colon separates them."""


class _QueryName(QueryText):
    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        text: str = super()._deserialize(value, *args, **kwargs)
        if not text.strip("*") or (text[0] == "*") != (text[-1] == "*"):
            raise ValidationError("must be the beginning of a name, or *part*")
        return text


class QueryJobNames(Repeatable, _QueryName):
    """The beginnings of names of jobs, or *parts*."""


class PlainNames(Repeatable, Text):
    """One or more names of clusters or hosts."""
