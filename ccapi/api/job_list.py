"""A page of jobs as a response: at once when it is small, as a stream when it is not."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import fields
from itertools import chain
from typing import Any, NamedTuple

import orjson
from flask import Response

from ccapi.api.serializers import JOB_FIELDS, job_meta, now
from ccapi.context import Context
from ccapi.db.pool import Connection
from ccapi.errors import InvalidInput
from ccapi.http import csv_format as table
from ccapi.http.cache import CachedResponse
from ccapi.http.pagination import Cursor
from ccapi.model.job import Job, JobFilter, ListPosition
from ccapi.model.rules import MAX_INTEGER
from ccapi.repository import job_list

_DEFAULT_ITEMS = 25
# Jobs that are in memory at a time.
_BATCH = 250
_METADATA = "metaData"
_USUAL = tuple(name for name in JOB_FIELDS if name != _METADATA)
_FILTERS = {field.name for field in fields(JobFilter)}


class _Wanted(NamedTuple):
    """What a checked query asks for."""

    jobs: JobFilter
    page: job_list.Page
    cursor: Cursor
    shown: tuple[str, ...]
    counts_all: bool
    is_table: bool


def page(context: Context, query: dict[str, Any]) -> CachedResponse | Response:
    """Answer the page that a checked query asks for; raises InvalidInput."""
    wanted = _wanted(query)
    if wanted.page.limit > _BATCH:
        return _streamed(context, wanted)
    with context.database.connection() as conn:
        [found] = _batches(conn, wanted)
        total = _total(conn, wanted, found)
    return _complete(wanted, found, total)


def _complete(wanted: _Wanted, found: job_list.Batch, total: dict[str, int]) -> CachedResponse:
    shown = _shown(found.jobs, wanted)
    if wanted.is_table:
        body = table.head(wanted.shown) + table.lines(wanted.shown, shown)
        return CachedResponse.named(body, table.CONTENT_TYPE, _headers(wanted, found.end, total))
    return CachedResponse.of({"jobs": shown, **_tail(wanted, len(shown), found.end), **total})


def _tail(wanted: _Wanted, items: int, end: ListPosition | None) -> dict[str, Any]:
    following = _next_cursor(wanted, end)
    return {"items": items, "page": wanted.cursor.page, "nextCursor": following}


def _headers(wanted: _Wanted, end: ListPosition | None, total: dict[str, int]) -> dict[str, str]:
    """Say beside a table what has no column in it."""
    counted = {"X-Total": str(total["total"])} if total else {}
    return {"X-Next-Cursor": _next_cursor(wanted, end), **counted}


def _next_cursor(wanted: _Wanted, end: ListPosition | None) -> str:
    return "" if end is None else str(wanted.cursor.after(end))


def _total(conn: Connection, wanted: _Wanted, first: job_list.Batch) -> dict[str, int]:
    """Count all jobs that match, if that is wanted, and if they are not all on this page."""
    if not wanted.counts_all:
        return {}
    is_all = first.end is None and wanted.page.offset == 0 and wanted.page.after is None
    return {"total": len(first.jobs) if is_all else job_list.count(conn, wanted.jobs)}


def _wanted(query: dict[str, Any]) -> _Wanted:
    number, items = query.get("page", 1), query.get("items_per_page", _DEFAULT_ITEMS)
    offset = min((number - 1) * items, MAX_INTEGER)
    cursor = query.get("cursor")
    if cursor is not None and "page" in query:
        raise InvalidInput.of("page", "must not come with cursor, which tells the page, too")
    cursor = cursor or Cursor(None, number)
    return _Wanted(
        wanted_jobs(query),
        job_list.Page(offset, items, cursor.place),
        cursor,
        _fields(query),
        query.get("total", False),
        query.get("format") == "csv",
    )


def _fields(query: dict[str, Any]) -> tuple[str, ...]:
    """Return the fields to show: those chosen, else all; metadata when it is asked for."""
    chosen = query.get("fields_", _USUAL)
    wants_metadata = query.get("with_metadata", False) and _METADATA not in chosen
    return (*chosen, _METADATA) if wants_metadata else chosen


def wanted_jobs(query: dict[str, Any]) -> JobFilter:
    """Return the filters of a checked query; what else it asks for is passed over."""
    given = {name: query[name] for name in _FILTERS & query.keys()}
    return JobFilter(**given, states=query.get("state"), now=now())


def _batches(conn: Connection, wanted: _Wanted) -> Iterator[job_list.Batch]:
    parts = job_list.Columns(
        meta_data=_METADATA in wanted.shown,
        resources="resources" in wanted.shown,
        statistics="statistics" in wanted.shown,
        tags="tags" in wanted.shown,
    )
    return job_list.batches(conn, wanted.jobs, wanted.page, parts, _BATCH)


def _shown(found: list[Job], wanted: _Wanted) -> list[dict[str, Any]]:
    at = now()
    every = [job_meta(job, at) for job in found]
    if set(_USUAL) <= set(wanted.shown):
        return every
    return [{name: job[name] for name in wanted.shown if name in job} for job in every]


def _streamed(context: Context, wanted: _Wanted) -> CachedResponse | Response:
    """Answer a page of any length in constant memory, as of one moment.

    One that turns out to be short is no stream, and may be shared.

    The first batch is read before the response begins: what fails by then is an
    ordinary error.
    """
    with ExitStack() as opened:
        conn = opened.enter_context(context.database.snapshot())
        batches = _batches(conn, wanted)
        first = next(batches)
        total = _total(conn, wanted, first)
        if first.end is None:
            return _complete(wanted, first, total)
        if wanted.is_table:
            end = job_list.find_end(conn, wanted.jobs, wanted.page)
            headers = _headers(wanted, end, total)
            lines = _lines(chain([first], batches), wanted, opened.pop_all())
            return Response(lines, headers=headers, content_type=table.CONTENT_TYPE)
        body = _body(chain([first], batches), wanted, total, opened.pop_all())
    return Response(body, content_type="application/json")


def _lines(
    batches: Iterator[job_list.Batch], wanted: _Wanted, opened: ExitStack
) -> Iterator[bytes]:
    """Write the table batch by batch; a failure breaks the connection off."""
    with opened:
        yield table.head(wanted.shown)
        for batch in batches:
            yield table.lines(wanted.shown, _shown(batch.jobs, wanted))


def _body(
    batches: Iterator[job_list.Batch], wanted: _Wanted, total: dict[str, int], opened: ExitStack
) -> Iterator[bytes]:
    """Write the document batch by batch; a failure cuts it off, so that no reader trusts it."""
    with opened:
        items, separator, end = 0, b"", None
        yield b'{"jobs":['
        for batch in batches:
            if batch.jobs:
                yield separator + orjson.dumps(_shown(batch.jobs, wanted))[1:-1]
                separator = b","
            items, end = items + len(batch.jobs), batch.end
        yield b"]," + orjson.dumps({**_tail(wanted, items, end), **total})[1:]
