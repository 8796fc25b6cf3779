"""A page of jobs as a response: at once when it is small, as a stream when it is not."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from typing import Any

import orjson
from flask import Response

from ccapi.api.representation import answer, job_meta, now
from ccapi.model.job import Job, JobFilter
from ccapi.repository import jobs
from ccapi.service.registry import Registry

_log = logging.getLogger(__name__)
_DEFAULT_ITEMS = 25
# Jobs that are in memory at a time.
_BATCH = 250


def page(registry: Registry, query: dict[str, Any]) -> Response:
    """Answer the page that a checked query asks for."""
    start_from, start_to = query.get("start_time", (None, None))
    wanted = JobFilter(query.get("state"), query.get("cluster"), start_from, start_to)
    number = query.get("page", 1)
    items = query.get("items_per_page", _DEFAULT_ITEMS)
    part = jobs.Page((number - 1) * items, items)
    with_metadata = query.get("with_metadata", False)
    if items > _BATCH:
        return _streamed(registry, wanted, part, number, with_metadata=with_metadata)
    with registry.database.statement() as conn:
        found = next(
            jobs.batches(conn, wanted, part, with_metadata=with_metadata, batch_size=_BATCH), []
        )
    shown = _shown(found)
    return answer({"jobs": shown, "items": len(shown), "page": number})


def _shown(found: list[Job]) -> list[dict[str, Any]]:
    at = now()
    return [job_meta(job, at) for job in found]


def _streamed(
    registry: Registry, wanted: JobFilter, part: jobs.Page, number: int, *, with_metadata: bool
) -> Response:
    """Answer a page of any length in constant memory, as of one moment.

    The first batch is read before the response begins: what fails by then is an
    ordinary error.
    """
    with ExitStack() as opened:
        conn = opened.enter_context(registry.database.snapshot())
        batches = jobs.batches(conn, wanted, part, with_metadata=with_metadata, batch_size=_BATCH)
        first = next(batches, [])
        body = _body(chain([first], batches), number, opened.pop_all())
    return Response(body, content_type="application/json")


def _body(batches: Iterator[list[Job]], number: int, opened: ExitStack) -> Iterator[bytes]:
    """Write the document batch by batch; a failure cuts it off, so that no reader trusts it."""
    with opened:
        items, separator = 0, b""
        yield b'{"jobs":['
        for batch in batches:
            if batch:
                yield separator + orjson.dumps(_shown(batch))[1:-1]
                separator = b","
            items += len(batch)
        yield b'],"items":%d,"page":%d}' % (items, number)
