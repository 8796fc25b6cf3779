"""A page of jobs as JSON or CSV: a response of its own length, or a stream if it is long."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import fields, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import orjson
from flask import Response
from werkzeug.wsgi import ClosingIterator

from ccapi.api.fields import Cursor
from ccapi.api.serializers import JOB_FIELDS, job_meta, now, wants_unit_objects
from ccapi.context import Context
from ccapi.errors import Forbidden, InvalidInput
from ccapi.http import csv_format, json_format, pagination
from ccapi.model.job import JobFilter, ListPosition, SortBy
from ccapi.model.rules import MAX_INTEGER
from ccapi.model.token import Scope
from ccapi.repository import job_list
from ccapi.repository.job_list import Batch, Columns, Page

if TYPE_CHECKING:
    from ccapi.db.pool import Connection

_DEFAULT_ITEMS = 25
# No index has the other orders, so each batch of such a list sorts all of it again.
_MAX_SORTED_ITEMS = 1000
# A longer stream has no Link header: finding its end first would delay its first byte.
_MAX_LINKED_ITEMS = 100_000
# Jobs that are in memory at a time; longer pages are streamed.
_BATCH_SIZE = 250
_MAX_CHEAP_OFFSET = 10_000
_NAMES_WITHOUT_INDEX = (
    *("duration", "wait", "submit_time", "walltime_used", "num_acc", "num_hwthreads", "name"),
)
_METADATA = "metaData"
_DEFAULT_FIELDS = tuple(name for name in JOB_FIELDS if name != _METADATA)
_FILTERS = {field.name for field in fields(JobFilter)}


class Total(NamedTuple):
    """The number of all jobs that match; None if nobody asked for it."""

    number: int | None
    is_estimate: bool = False


class ListRequest(NamedTuple):
    """What a query asks for."""

    job_filter: JobFilter
    page: Page
    page_number: int
    fields: tuple[str, ...]
    total: bool | Literal["estimate"]
    is_csv: bool
    with_unit_objects: bool

    @classmethod
    def parse(cls, context: Context, query: dict[str, Any]) -> "ListRequest":
        """Read a query that ListQuery has checked; raises InvalidInput."""
        if "cursor" in query and "page" in query:
            raise InvalidInput.of("page", "cannot be combined with cursor")
        items = query.get("items_per_page", _DEFAULT_ITEMS)
        number = query.get("page", 1)
        offset = min((number - 1) * items, MAX_INTEGER)
        cursor = query.get("cursor", Cursor(page_number=number))
        order = query.get("sort", cursor.order)
        if cursor.position is not None and order != cursor.order:
            raise InvalidInput.of("cursor", "comes from a list with another sort")
        if order.sort_by is not SortBy.START_TIME and items > _MAX_SORTED_ITEMS:
            expected = f"must be at most {_MAX_SORTED_ITEMS} with sort={order.sort_by}"
            raise InvalidInput.of("items-per-page", f"{expected}; follow nextCursor for more")
        names = query.get("fields_", _DEFAULT_FIELDS)
        if query.get("with_metadata") and _METADATA not in names:
            names = (*names, _METADATA)
        is_csv = query.get("format") == "csv"
        return cls(
            job_filter=_parse_bounded_filter(query, context.scope, cursor.now),
            page=Page(offset, items, cursor.position, order),
            page_number=cursor.page_number,
            fields=names,
            total=query.get("total", False),
            is_csv=is_csv,
            with_unit_objects=not is_csv and wants_unit_objects(),
        )

    @property
    def columns(self) -> Columns:
        """Return which large columns to read."""
        return Columns(
            meta_data=_METADATA in self.fields and self.job_filter.scope.sees_metadata,
            resources="resources" in self.fields,
            statistics="statistics" in self.fields,
            tags="tags" in self.fields,
        )

    @property
    def is_expensive(self) -> bool:
        """Return whether the query may read many jobs, or the answer may be a stream."""
        return (
            self.page.limit > _BATCH_SIZE
            or self.page.offset > _MAX_CHEAP_OFFSET
            or self.page.order.sort_by is not SortBy.START_TIME
            or self.total is True
            or (bool(self.total) and self.job_filter.scope.is_limited)
            or any(getattr(self.job_filter, name) is not None for name in _NAMES_WITHOUT_INDEX)
        )

    def next_cursor(self, end: ListPosition | None) -> str:
        """Return the cursor of the next page, whose position is None at the end of the list."""
        if end is None:
            return ""
        number = min(self.page_number + 1, MAX_INTEGER)
        return Cursor(end, number, self.page.order, self.job_filter.now).encode()

    def headers(self, end: ListPosition | None, total: Total) -> dict[str, str]:
        """Return the link to the next page, and for CSV what JSON has in its body."""
        cursor = self.next_cursor(end)
        headers = {"Link": pagination.next_link(cursor)} if cursor else {}
        if self.is_csv:
            headers["X-Next-Cursor"] = cursor
            if total.number is not None:
                headers["X-Total"] = str(total.number)
            if total.is_estimate:
                headers["X-Total-Is-Estimate"] = "true"
        return headers

    def read_total(self, conn: "Connection", first: Batch) -> Total:
        """Count the jobs of a list, or estimate their number.

        A limited token gets no estimate, which comes from other users' jobs, too.
        """
        page, job_filter = self.page, self.job_filter
        if first.end is None and page.offset == 0 and page.after is None:
            return Total(len(first.jobs))
        if self.total == "estimate" and not job_filter.scope.is_limited:
            return Total(job_list.estimate(conn, job_filter), is_estimate=True)
        return Total(job_list.count(conn, job_filter))


def parse_filter(query: dict[str, Any], scope: Scope) -> JobFilter:
    """Return the filters of a query that ListQuery or StatsQuery has checked."""
    filters = {name: query[name] for name in _FILTERS & query.keys()}
    if "name" in filters and not scope.sees_metadata:
        raise Forbidden("name: this token does not see metadata, which has the names of jobs")
    return JobFilter(**filters, scope=scope, now=now())


def _parse_bounded_filter(query: dict[str, Any], scope: Scope, begun_at: int | None) -> JobFilter:
    """Return the filters of a list; a part of a name needs a range of time, as no index has it.

    A walk by cursor keeps the time at which it began: running jobs would change their places.
    """
    job_filter = parse_filter(query, scope)
    if begun_at is not None:
        job_filter = replace(job_filter, now=begun_at)
    has_part = any(name.startswith("*") for name in job_filter.name or ())
    ranges = (job_filter.start_time, job_filter.stop_time)
    if has_part and not any(time is not None and time.lower > 0 for time in ranges):
        raise InvalidInput.of("name", "*part* needs a start-time or stop-time with a FROM")
    return job_filter


def respond(context: Context, request: ListRequest, *, is_large: bool = False) -> Response:
    """Read a page and answer it: at once, or as a stream if it has more than one batch.

    A page of few jobs that turn out to be large is read again, as a stream.

    A stream takes constant memory, and shows the jobs as of one moment. Its first batch is read
    before the response begins, so that most failures are ordinary errors.
    """
    write = _write_csv if request.is_csv else _write_json
    job_filter, page = request.job_filter, request.page
    has_index = page.order.sort_by is SortBy.START_TIME
    batch_size = _BATCH_SIZE if has_index else _MAX_SORTED_ITEMS
    is_short = page.limit <= batch_size and not is_large
    with ExitStack() as stack:
        database = context.database
        stack.enter_context(database.slot(is_expensive=request.is_expensive or is_large))
        conn = stack.enter_context(database.connection() if is_short else database.snapshot())
        batches = job_list.batches(conn, job_filter, page, request.columns, batch_size)
        first = next(batches)
        end = first.end
        if is_short and end is not None and len(first.jobs) < page.limit:
            stack.close()
            return respond(context, request, is_large=True)
        total = request.read_total(conn, first) if request.total else Total(None)
        stream = None
        if not is_short and end is not None:
            if request.is_csv or page.limit <= _MAX_LINKED_ITEMS:
                end = job_list.find_end(conn, job_filter, page)
            else:
                end = None
            opened = stack.pop_all()

            def stream_batches() -> Iterator[bytes]:
                with opened:  # The database's contexts see a failure of the stream.
                    yield from write(request, chain([first], batches), total)

            # The server closes a response that nobody read, too.
            stream = ClosingIterator(stream_batches(), opened.close)
    body = stream or b"".join(write(request, [first], total))
    content_type = csv_format.CONTENT_TYPE if request.is_csv else json_format.CONTENT_TYPE
    return Response(body, headers=request.headers(end, total), content_type=content_type)


def _write_json(request: ListRequest, batches: Iterable[Batch], total: Total) -> Iterator[bytes]:
    """Write schema.GetJobsApiResponse; a failure truncates it, so that it is not valid JSON."""
    items, end, separator = 0, None, b""
    yield b'{"jobs":['
    for batch in batches:
        if batch.jobs:
            yield separator + orjson.dumps(_rows(request, batch))[1:-1]
            separator = b","
        items, end = items + len(batch.jobs), batch.end
    page = {
        "items": items,
        "page": request.page_number,
        "nextCursor": request.next_cursor(end),
        **({} if total.number is None else {"total": total.number}),
        **({"totalIsEstimate": True} if total.is_estimate else {}),
    }
    yield b"]," + json_format.dumps(page)[1:]


def _write_csv(request: ListRequest, batches: Iterable[Batch], _total: Total) -> Iterator[bytes]:
    yield csv_format.header(request.fields)
    for batch in batches:
        yield csv_format.lines(request.fields, _rows(request, batch))


def _rows(request: ListRequest, batch: Batch) -> list[dict[str, Any]]:
    """Return a batch's jobs with the requested fields."""
    at = now()
    with_objects = request.with_unit_objects
    jobs = [job_meta(job, at, with_unit_objects=with_objects) for job in batch.jobs]
    if set(_DEFAULT_FIELDS) <= set(request.fields):
        return jobs
    return [{name: job[name] for name in request.fields if name in job} for job in jobs]
