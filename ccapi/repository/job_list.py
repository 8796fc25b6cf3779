"""List and count jobs: sql/queries/job_list.sql."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg

from ccapi.db import queries
from ccapi.db.pool import Connection
from ccapi.errors import TooSlow
from ccapi.model.job import DEFAULT_ORDER, Job, JobFilter, ListOrder, ListPosition, SortBy
from ccapi.model.rules import MAX_INTEGER
from ccapi.repository import codec
from ccapi.repository.job_filter import Conditions, conditions_of

_SQL = queries.load("job_list")
_ORDER = queries.parts("job_order")
_PAGE = queries.parts("job_filter")["page"]
# A page of 25 jobs, and the next one. Plans depend on a limit; a prepared one has it as a constant.
_DEFAULT_LIMIT = int(_ORDER["default_limit"])
# A walk back in time begins at the last job of these.
_LAST_START = {"user_name": "before_last_of_user", "project": "before_last_of_project"}
_MAX_BATCH_BYTES = 2**20
# A list of a host's jobs looks into so many periods of three days, then into 8 times as many.
_FIRST_PERIODS, _PERIODS_FACTOR = 2, 8


class Page(NamedTuple):
    """A part of a list: `limit` jobs after a position, without the first `offset`."""

    offset: int
    limit: int
    after: ListPosition | None = None
    order: ListOrder = DEFAULT_ORDER


class Columns(NamedTuple):
    """Which of the large columns and the names to read; the others appear empty."""

    meta_data: bool = False
    resources: bool = True
    statistics: bool = True
    tags: bool = True
    name: bool = False


_NO_COLUMNS = Columns(meta_data=False, resources=False, statistics=False, tags=False)


class Batch(NamedTuple):
    """Jobs of a list, and the position after them; None at the end of the list."""

    jobs: list[Job]
    end: ListPosition | None


def list_page(conn: Connection, job_filter: JobFilter, page: Page, columns: Columns) -> list[Job]:
    """Read a page of the matching jobs in the page's order, as they are stored; raises TooSlow.

    The latest jobs of a host are looked up in the latest days first: a busy host may have
    millions.
    """
    walks_back = page.order == DEFAULT_ORDER
    periods = _FIRST_PERIODS if job_filter.host is not None and walks_back else None
    start_to = page.after.key if page.after and walks_back else MAX_INTEGER
    while True:
        conditions = conditions_of(conn, job_filter, start_to=start_to, max_periods=periods)
        if conditions.params.get("host_keys") == []:
            return []
        query, params, can_prepare = list_statement(conditions, page, columns)
        with timeout_as_too_slow(), conn.cursor(row_factory=codec.compact_job_row) as cursor:
            prepare = None if can_prepare else False
            jobs = cursor.execute(query, params, prepare=prepare).fetchall()
        if periods is None or len(jobs) == page.limit or conditions.is_complete:
            return jobs
        periods *= _PERIODS_FACTOR


def list_statement(
    conditions: Conditions, page: Page, columns: Columns
) -> tuple[str, dict[str, Any], bool]:
    """Return the statement of a page, its parameters, and whether it can be prepared."""
    names, params, _ = conditions
    sort_by, is_descending = page.order
    is_direct = page.offset == 0 and sort_by is SortBy.START_TIME
    is_usual = is_direct and page.limit == _DEFAULT_LIMIT
    first = conditions.first_column if is_usual and page.after is None else None
    if first is not None:
        names = tuple(f"{name}_in_order" if name == first else name for name in names)
    elif page.order == DEFAULT_ORDER:
        names += tuple(_LAST_START[name] for name in names if name in _LAST_START)
    if page.after is not None:
        names += ("after_position" if is_descending else "after_position_ascending",)
        params = {**params, "after_key": page.after.key, "after_id": page.after.id}
    conditions = conditions._replace(names=names)
    query = queries.fill(
        _SQL["list_jobs"],
        conditions=conditions.sql if is_direct else _PAGE,
        page_conditions=conditions.sql,
        first="" if first is None else _ORDER[f"{first}_first"],
        sort_key=_ORDER[sort_by.name.lower()],
        direction=_ORDER["descending" if is_descending else "ascending"],
        limit=_ORDER["default_limit" if is_usual else "limit"],
    )
    values = {
        **params,
        "last_key": -1 if is_descending else MAX_INTEGER,
        "offset": page.offset,
        "limit": page.limit,
        **_flags(columns),
    }
    return query, values, is_usual and (first is not None or conditions.have_one_plan)


def count(conn: Connection, job_filter: JobFilter) -> int:
    """Count all jobs that match; raises TooSlow."""
    with timeout_as_too_slow():
        conditions = conditions_of(conn, job_filter)
        query = queries.fill(_SQL["count_jobs"], conditions=conditions.sql)
        [number] = conn.execute(query, conditions.params, prepare=False).fetchone() or [0]
    return int(number)


def estimate(conn: Connection, job_filter: JobFilter) -> int:
    """Return how many jobs the planner expects to match."""
    conditions = conditions_of(conn, job_filter)
    query = queries.fill(_SQL["estimate_jobs"], conditions=conditions.sql)
    row = conn.execute(query, conditions.params, prepare=False).fetchone()
    assert row is not None
    [[plan]] = row
    return int(plan["Plan"]["Plan Rows"])


@contextmanager
def timeout_as_too_slow() -> Iterator[None]:
    """Raise TooSlow for a statement timeout: the query is too large, the database is fine."""
    try:
        yield
    except psycopg.errors.QueryCanceled as error:
        raise TooSlow(f"the query takes too long: {error}") from error


def batches(
    conn: Connection, job_filter: JobFilter, page: Page, columns: Columns, batch_size: int
) -> Iterator[Batch]:
    """Read a page of any length in batches, at least one, each of `batch_size` jobs or fewer.

    A batch ends early when its jobs have a megabyte. The jobs are read with the one after them,
    which shows whether the list continues.
    """
    remaining = page.limit
    while remaining > 0:
        size = min(batch_size, remaining)
        jobs = list_page(conn, job_filter, page._replace(limit=size + 1), columns)
        end = jobs[size - 1].position if len(jobs) > size else None
        del jobs[size:]
        yield from _split(conn, jobs, end, columns)
        remaining -= size
        if end is None:
            return
        page = Page(0, remaining, end, page.order)


def _split(
    conn: Connection, jobs: list[Job], end: ListPosition | None, columns: Columns
) -> Iterator[Batch]:
    """Yield jobs in batches that end after a megabyte, as they are shown; at least one batch.

    Removes the jobs from the list, so that those of earlier batches need no memory.
    """
    batch, size = [], 0
    jobs.reverse()
    while jobs:
        job = jobs.pop()
        if job.is_partial:
            query = {"id": job.id, **_flags(columns)}
            row = conn.execute(_SQL["read_large_columns"], query).fetchone()
            if row is None:
                continue  # It has just been deleted.
            job.resources, job.statistics, job.meta_data = row
        job.resources = codec.expand_nodes(job.resources)
        batch.append(job)
        size += len(job.resources) + len(job.statistics or "") + len(job.meta_data or "")
        if size > _MAX_BATCH_BYTES and jobs:
            yield Batch(batch, job.position)
            batch, size = [], 0
    yield Batch(batch, end)


def _flags(columns: Columns) -> dict[str, bool]:
    return {f"with_{name}": is_read for name, is_read in columns._asdict().items()}


def find_end(conn: Connection, job_filter: JobFilter, page: Page) -> ListPosition | None:
    """Find the position after a page without reading it; None at the end of the list."""
    offset = min(page.offset + page.limit - 1, MAX_INTEGER)
    last = list_page(conn, job_filter, page._replace(offset=offset, limit=2), _NO_COLUMNS)
    return last[0].position if len(last) > 1 else None
