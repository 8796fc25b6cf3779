"""500 open pages with live rows: their queries, and the starts beside them."""

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

from bench import load_generator
from bench.deployed_site import Site, nginx, run_site
from bench.greedy_readers import start_jobs
from bench.http_requests import NUMBER
from bench.load_generator import LoadResult, LoadSpec
from bench.pages import fetch, find_token
from bench.report import Row, spread
from bench.testbed import Instance, Testbed

_OPEN_PAGES, _INTERVAL_SECONDS = 500, 13
_ROUNDS, _WARM_UP_ROUNDS, _COUNTED_ROUNDS = 3, 10, 4
_ROWS = "/jobs/rows?state=running"
_WORKERS = 2
_START_SECONDS = 10
_MAX_QUERIES, _MAX_LATENCY = 1.2, 1.3
# As long as a secret of ccapi: nginx knows it by its length.
_SECRET_PREFIX = "x" * 35
_INSERT_SESSIONS = """
INSERT INTO sessions (digest, token, expires_at, is_link)
SELECT sha256(convert_to(%(prefix)s || lpad(n::text, 8, '0'), 'UTF8')), %(token)s,
       now() + interval '1 day', false
FROM generate_series(0, %(last)s) AS n
ON CONFLICT DO NOTHING
"""


def open_pages(testbed: Testbed) -> Iterator[Row]:
    """Keep 500 lists of running jobs open, each in a session of its own, behind nginx."""
    if nginx() is None:
        print("nginx is not installed; open pages are not measured")
        return
    instance = testbed.small
    token = find_token(instance, instance.reader_token)
    with instance.database.session() as conn:
        params = {"prefix": _SECRET_PREFIX, "token": token.id, "last": _OPEN_PAGES - 1}
        conn.execute(_INSERT_SESSIONS.encode(), params)
    with run_site(instance.settings, workers=_WORKERS, readers=_WORKERS) as site:
        # Each open page has reached each worker, as after a few minutes.
        for _ in range(_WARM_UP_ROUNDS):
            spec = replace(_poll_spec(site.socket), rate=None, clients=2 * _WORKERS)
            load_generator.run(spec).require_status(200)
        yield _count_queries(site, instance)
        yield _compare_starts(site, instance)


def _count_queries(site: Site, instance: Instance) -> Row:
    """Count how often the readers' workers use a connection to the database."""

    def count() -> int:
        exposition = fetch(site.readers.socket, "/metrics", "", instance.reader_token).decode()
        name = "ccapi_database_connection_held_seconds_count"
        [number] = re.findall(rf"^{name} (\S+)", exposition, re.MULTILINE)
        return int(float(number))

    of_count = -count() + count()
    before, cpu, start = count(), site.readers.cpu_seconds(), time.monotonic()
    results = [_poll(site.socket) for _ in range(_COUNTED_ROUNDS)]
    seconds = time.monotonic() - start
    cpu = site.readers.cpu_seconds() - cpu
    queries = count() - before - of_count
    return Row(
        what="500 open pages: queries per second and worker",
        measured=queries / seconds / _WORKERS,
        bar=_MAX_QUERIES,
        unit="",
        details=f"{sum(result.count for result in results)} answers and {queries} queries in "
        f"{seconds:.0f} s, {_WORKERS} workers; p99 {1000 * results[-1].p99:.1f} ms; "
        f"{100 * cpu / seconds:.0f} % of a processor",
    )


def _compare_starts(site: Site, instance: Instance) -> Row:
    alone, beside = [], []
    for _ in range(_ROUNDS):
        alone.append(start_jobs(site.socket, instance, _START_SECONDS))
        polls = load_generator.start(_poll_spec(site.socket))
        beside.append(start_jobs(site.socket, instance, _START_SECONDS))
        load_generator.finish(polls).require_status(200)
    p99s = [[1000 * result.p99 for result in results] for results in (alone, beside)]
    return Row(
        what="p99 of starts beside 500 open pages / alone",
        measured=median(p99s[1]) / median(p99s[0]),
        bar=_MAX_LATENCY,
        details=f"ms: alone {spread(p99s[0], 1, 1)}, beside {spread(p99s[1], 1, 1)}",
    )


def _poll_spec(path: Path) -> LoadSpec:
    """Return a load of one interval: each open page asks once for its rows."""
    request = (
        f"GET {_ROWS} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nHX-Request: true\r\n"
        f"Cookie: ccapi={_SECRET_PREFIX}{NUMBER}\r\n\r\n"
    )
    return LoadSpec(
        socket=str(path),
        request=request,
        first_number=0,
        clients=_OPEN_PAGES,
        count=_OPEN_PAGES,
        rate=_OPEN_PAGES / _INTERVAL_SECONDS,
    )


def _poll(path: Path) -> LoadResult:
    result = load_generator.run(_poll_spec(path))
    result.require_status(200)
    return result
