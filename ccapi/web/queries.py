"""The query strings of pages: those of the API, and ranges that move with time."""

from typing import Any

from ccapi.api.queries import ListQuery
from ccapi.api.serializers import now
from ccapi.errors import InvalidInput
from ccapi.http.schema import QueryChoice, QuerySchema
from ccapi.model.job import Range
from ccapi.model.rules import MAX_EPOCH_SECOND
from ccapi.web.words import LAST_SECONDS

MAX_ROWS = 200


class JobsQuery(ListQuery):
    """Which jobs a page lists."""

    last = QueryChoice(LAST_SECONDS)


class JobQuery(QuerySchema):
    """How a page shows one job."""

    format = QueryChoice(["json"])


def resolve(query: dict[str, Any]) -> dict[str, Any]:
    """Return the query as the API understands it; raises InvalidInput."""
    query = dict(query)
    last = query.pop("last", None)
    if last is not None:
        if "start_time" in query:
            raise InvalidInput.of("last", "cannot be combined with start-time")
        query["start_time"] = Range(now() - LAST_SECONDS[last], MAX_EPOCH_SECOND)
    return query


def require_one_screen(query: dict[str, Any]) -> None:
    """Check that a page has few rows; raises InvalidInput."""
    if query.get("items_per_page", 1) > MAX_ROWS:
        expected = f"must be at most {MAX_ROWS} on a page; format=csv and format=json may be longer"
        raise InvalidInput.of("items-per-page", expected)
