"""The query strings of pages: those of the API, and ranges that move with time."""

from typing import Any

from ccapi.api.queries import FORMATS, ListQuery
from ccapi.api.serializers import now
from ccapi.api.statistics import StatsQuery
from ccapi.errors import InvalidInput
from ccapi.http.schema import QueryChoice, QuerySchema
from ccapi.model.job import Range
from ccapi.model.rules import MAX_INTEGER
from ccapi.web.words import LAST_SECONDS, PERIODS

MAX_ROWS = 100
_DEFAULT_PERIOD = "7d"


class JobsQuery(ListQuery):
    """Which jobs a page lists."""

    last = QueryChoice(LAST_SECONDS)


class StatisticsQuery(StatsQuery):
    """Which jobs a page counts."""

    last = QueryChoice(LAST_SECONDS)


class JobQuery(QuerySchema):
    """How a page shows one job."""

    format = QueryChoice(FORMATS)


class PeriodQuery(QuerySchema):
    """How far back a page looks."""

    last = QueryChoice(PERIODS)


def period_of(query: dict[str, Any]) -> tuple[str, int]:
    """Return the word of a PeriodQuery, and its seconds."""
    last = query.get("last", _DEFAULT_PERIOD)
    return last, LAST_SECONDS[last]


def resolve(query: dict[str, Any], time: str = "start_time") -> dict[str, Any]:
    """Return the query as the API understands it, `last` as a range of time.

    Raises InvalidInput.
    """
    query = dict(query)
    last = query.pop("last", None)
    if last is not None:
        if time in query:
            expected = f"cannot be combined with {time.replace('_', '-')}"
            raise InvalidInput.of("last", expected)
        query[time] = Range(now() - LAST_SECONDS[last], MAX_INTEGER)
    return query


def require_one_screen(query: dict[str, Any]) -> None:
    """Check that a page has few rows; raises InvalidInput."""
    if query.get("items_per_page", 1) > MAX_ROWS:
        expected = f"must be at most {MAX_ROWS} on a page; format=csv and format=json may be longer"
        raise InvalidInput.of("items-per-page", expected)
