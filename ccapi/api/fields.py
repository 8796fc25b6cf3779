"""Fields of jobs, for bodies and query strings."""

import re
from typing import Any

from marshmallow import ValidationError, fields

from ccapi.http import pagination
from ccapi.http.schema import EnumField, Integer, QueryText, Repeatable, Text, describe
from ccapi.model import rules
from ccapi.model.job import FINAL_STATES, JobState, ListPosition, Range, Tag
from ccapi.model.rules import MAX_INTEGER

# What the document says of the integers in paths; the examples fill its forms.
PATH_PARAMETERS = {
    "id": {"description": "Database id of the job", "x-example": 1},
    "ts": {"description": "Time, in epoch seconds", "x-example": 1649723812},
}


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


class ListCursor(fields.String):
    """A list's nextCursor: the position after a page and the next page's number, from 2.

    The empty cursor is the beginning of the list.
    """

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if value == "":
            return None, 1
        start_time, id_, page_number = pagination.decode(value) or (0, 0, 0)
        if start_time < 1 or id_ < 1 or page_number < 2:
            raise ValidationError("must be the nextCursor of an earlier page, or empty")
        return ListPosition(start_time, id_), page_number


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
