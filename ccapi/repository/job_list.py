"""List and count jobs: sql/queries/job_list.sql."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import scalar_row

from ccapi.db import queries
from ccapi.db.pool import Connection
from ccapi.errors import TooSlow
from ccapi.model.job import Job, JobFilter, ListPosition, Range
from ccapi.model.rules import MAX_INTEGER
from ccapi.repository import codec
from ccapi.repository.jobs import scope_params

_SQL = queries.load("job_list")
# The jobs of a rare tag are looked up, at 4 us each; a list soon meets a common tag anyway.
_COMMON_TAG_JOBS = 10_000
_UNKNOWN_TAG = 0
# A list of a host's jobs looks into so many periods of three days, then into 8 times as many.
_FIRST_PERIODS, _PERIODS_FACTOR = 2, 8


class Page(NamedTuple):
    """A part of a list: `limit` jobs after a position, without the first `offset`."""

    offset: int
    limit: int
    after: ListPosition | None = None


class Columns(NamedTuple):
    """Which of the large columns to read; the others appear empty."""

    meta_data: bool = False
    resources: bool = True
    statistics: bool = True
    tags: bool = True


_NO_COLUMNS = Columns(meta_data=False, resources=False, statistics=False, tags=False)


class Batch(NamedTuple):
    """Jobs of a list, and the position after them; None at the end of the list."""

    jobs: list[Job]
    end: ListPosition | None


def list_page(conn: Connection, job_filter: JobFilter, page: Page, columns: Columns) -> list[Job]:
    """Read a page of the matching jobs, the latest start first; raises TooSlow.

    A host's jobs are looked up in the latest days first: a busy host may have millions.
    """
    page_params = list_params(page, columns)
    start_to = page.after.start_time if page.after else MAX_INTEGER
    periods = None if job_filter.host is None else _FIRST_PERIODS
    while True:
        params = filter_params(conn, job_filter, start_to, periods)
        if params["host_keys"] == []:
            return []
        with timeout_as_too_slow(), conn.cursor(row_factory=codec.job_row) as cursor:
            query = _SQL["list_jobs"]
            jobs = cursor.execute(query, {**params, **page_params}, prepare=False).fetchall()
        if periods is None or len(jobs) == page.limit or len(params["host_keys"]) < periods:
            return jobs
        periods *= _PERIODS_FACTOR


def list_params(page: Page, columns: Columns) -> dict[str, object]:
    """Return the parameters of a list's query beside the filter."""
    return {
        "after_start_time": page.after and page.after.start_time,
        "after_id": page.after and page.after.id,
        "offset": page.offset,
        "limit": page.limit,
        **{f"with_{name}": is_read for name, is_read in columns._asdict().items()},
    }


def count(conn: Connection, job_filter: JobFilter) -> int:
    """Count all jobs that match; raises TooSlow."""
    with timeout_as_too_slow():
        params = filter_params(conn, job_filter)
        [number] = conn.execute(_SQL["count_jobs"], params, prepare=False).fetchone() or [0]
    return int(number)


@contextmanager
def timeout_as_too_slow() -> Iterator[None]:
    """Raise TooSlow for a statement timeout: the query is too large, the database is fine."""
    try:
        yield
    except psycopg.errors.QueryCanceled as error:
        raise TooSlow(f"the query takes too long: {error}") from error


def filter_params(
    conn: Connection,
    job_filter: JobFilter,
    start_to: int = MAX_INTEGER,
    periods: int | None = None,
) -> dict[str, Any]:
    """Return the parameters of sql/fragments/job_filter.sql and host_and_tag_filter.sql.

    A host's jobs are limited to the latest `periods` with a start up to `start_to`.
    """
    params = column_params(job_filter)
    params |= {"host_keys": None, "rare_tag": None, "common_tag": None}
    if job_filter.tag is not None:
        find_tag = {**job_filter.tag._asdict(), "many": _COMMON_TAG_JOBS}
        row = conn.execute(_SQL["find_tag"], find_tag).fetchone()
        id_, is_common = row or (_UNKNOWN_TAG, False)
        params["common_tag" if is_common else "rare_tag"] = id_
    if job_filter.host is not None:
        lower, upper = job_filter.start_time or (0, MAX_INTEGER)
        start = {"start_from": lower, "start_to": min(upper, start_to), "limit": periods}
        with conn.cursor(row_factory=scalar_row) as cursor:
            cursor.execute(_SQL["list_host_keys"], {"host": job_filter.host, **start})
            params["host_keys"] = cursor.fetchall()
    return params


def column_params(job_filter: JobFilter) -> dict[str, Any]:
    """Return the parameters of sql/fragments/job_filter.sql: a filter's fields by name.

    A range is two of them. One state is sent as `state`, several as an array literal: as
    constants of the enum's type they let the planner choose a partial index.
    """
    params: dict[str, Any] = {}
    for field in fields(job_filter):
        value = getattr(job_filter, field.name)
        if field.name in RANGES:
            lower, upper = value or (None, None)
            params |= {f"{field.name}_from": lower, f"{field.name}_to": upper}
        elif field.name not in {"states", "host", "tag", "scope"}:
            params[field.name] = value
    scope = job_filter.scope
    params |= scope_params(scope)
    if scope.users is not None and len(scope.users) == 1 and job_filter.user_name is None:
        # As fast as the filter by user, which it is.
        [params["user_name"]] = scope.users
    states = sorted(set(job_filter.states or ()))
    return params | {
        "state": states[0] if len(states) == 1 else None,
        "states": f"{{{','.join(states)}}}" if len(states) > 1 else None,
    }


RANGES = {field.name for field in fields(JobFilter) if field.type == Range | None}


def batches(
    conn: Connection, job_filter: JobFilter, page: Page, columns: Columns, batch_size: int
) -> Iterator[Batch]:
    """Read a page of any length in batches, at least one.

    Each batch is read with the job after it, which shows whether the list continues.
    """
    remaining = page.limit
    while remaining > 0:
        size = min(batch_size, remaining)
        jobs = list_page(conn, job_filter, page._replace(limit=size + 1), columns)
        end = jobs[size - 1].position if len(jobs) > size else None
        yield Batch(jobs[:size], end)
        remaining -= size
        if end is None:
            return
        page = Page(0, remaining, end)


def find_end(conn: Connection, job_filter: JobFilter, page: Page) -> ListPosition | None:
    """Find the position after a page without reading it; None at the end of the list."""
    offset = min(page.offset + page.limit - 1, MAX_INTEGER)
    last = list_page(conn, job_filter, page._replace(offset=offset, limit=2), _NO_COLUMNS)
    return last[0].position if len(last) > 1 else None
