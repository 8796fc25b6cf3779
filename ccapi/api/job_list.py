"""A page of jobs as JSON or CSV: a response of its own length, or a stream if it is long."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import fields
from itertools import chain
from typing import Any, NamedTuple

import orjson
from flask import Response
from werkzeug.wsgi import ClosingIterator

from ccapi.api.serializers import JOB_FIELDS, job_meta, now, wants_unit_objects
from ccapi.context import Context
from ccapi.errors import InvalidInput
from ccapi.http import csv_format, json_format, pagination
from ccapi.model.job import JobFilter, ListPosition
from ccapi.model.rules import MAX_INTEGER
from ccapi.model.token import Scope
from ccapi.repository import job_list
from ccapi.repository.job_list import Batch, Columns, Page

_DEFAULT_ITEMS = 25
# Jobs that are in memory at a time; longer pages are streamed.
_BATCH_SIZE = 250
_MAX_CHEAP_OFFSET = 10_000
_METADATA = "metaData"
_DEFAULT_FIELDS = tuple(name for name in JOB_FIELDS if name != _METADATA)
_FILTERS = {field.name for field in fields(JobFilter)}


class ListRequest(NamedTuple):
    """What a query asks for."""

    job_filter: JobFilter
    page: Page
    page_number: int
    fields: tuple[str, ...]
    with_total: bool
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
        position, number = query.get("cursor", (None, number))
        names = query.get("fields_", _DEFAULT_FIELDS)
        if query.get("with_metadata") and _METADATA not in names:
            names = (*names, _METADATA)
        is_csv = query.get("format") == "csv"
        return cls(
            job_filter=_parse_bounded_filter(query, context.scope),
            page=Page(offset, items, position),
            page_number=number,
            fields=names,
            with_total=query.get("total", False),
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
            or self.with_total
            or self.job_filter.duration is not None
        )

    def next_cursor(self, end: ListPosition | None) -> str:
        """Return the cursor of the next page, whose position is None at the end of the list."""
        if end is None:
            return ""
        return pagination.encode((*end, min(self.page_number + 1, MAX_INTEGER)))


def parse_filter(query: dict[str, Any], scope: Scope) -> JobFilter:
    """Return the filters of a query that ListQuery or StatsQuery has checked."""
    filters = {name: query[name] for name in _FILTERS & query.keys()}
    return JobFilter(**filters, scope=scope, now=now())


def _parse_bounded_filter(query: dict[str, Any], scope: Scope) -> JobFilter:
    """Return the filters of a list; a part of a name needs a range of time, as no index has it."""
    job_filter = parse_filter(query, scope)
    has_part = any(name.startswith("*") for name in job_filter.name or ())
    ranges = (job_filter.start_time, job_filter.stop_time)
    if has_part and not any(time is not None and time.lower > 0 for time in ranges):
        raise InvalidInput.of("name", "*part* needs a start-time or stop-time with a FROM")
    return job_filter


def respond(context: Context, request: ListRequest) -> Response:
    """Read a page and answer it: at once, or as a stream if it has more than one batch.

    A stream takes constant memory, and shows the jobs as of one moment. Its first batch is read
    before the response begins, so that most failures are ordinary errors.
    """
    write = _write_csv if request.is_csv else _write_json
    job_filter, page = request.job_filter, request.page
    is_short = page.limit <= _BATCH_SIZE
    with ExitStack() as stack:
        database = context.database
        if request.is_expensive:
            stack.enter_context(database.expensive())
        conn = stack.enter_context(database.connection() if is_short else database.snapshot())
        batches = job_list.batches(conn, job_filter, page, request.columns, _BATCH_SIZE)
        first = next(batches)
        total, end = None, first.end
        if request.with_total:
            has_all = end is None and page.offset == 0 and page.after is None
            total = len(first.jobs) if has_all else job_list.count(conn, job_filter)
        stream = None
        if not is_short and end is not None:
            if request.is_csv:
                end = job_list.find_end(conn, job_filter, page)
            opened = stack.pop_all()

            def stream_batches() -> Iterator[bytes]:
                with opened:  # The database's contexts see a failure of the stream.
                    yield from write(request, chain([first], batches), total)

            # The server closes a response that nobody read, too.
            stream = ClosingIterator(stream_batches(), opened.close)
    body = stream or b"".join(write(request, [first], total))
    if not request.is_csv:
        return Response(body, content_type=json_format.CONTENT_TYPE)
    headers = {"X-Next-Cursor": request.next_cursor(end)}
    if total is not None:
        headers["X-Total"] = str(total)
    return Response(body, headers=headers, content_type=csv_format.CONTENT_TYPE)


def _write_json(
    request: ListRequest, batches: Iterable[Batch], total: int | None
) -> Iterator[bytes]:
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
        **({} if total is None else {"total": total}),
    }
    yield b"]," + json_format.dumps(page)[1:]


def _write_csv(
    request: ListRequest, batches: Iterable[Batch], _total: int | None
) -> Iterator[bytes]:
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
