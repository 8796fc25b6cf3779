"""Lists: the first page by each filter, pages far down, and all that runs in one answer."""

import http.client
import json
import socket as sockets
import time
import urllib.parse
from collections.abc import Iterator
from statistics import median
from typing import Any

from psycopg.rows import dict_row

from bench import driver
from bench.service import get
from bench.site import Context, Site, served
from bench.table import Row, spread

_ROUNDS = 5
_REQUESTS = 40
_RUNNING = "/api/jobs/?state=running&items-per-page=9999999&page=1&with-metadata=false"
_FILTERS = (
    "",
    "state=running",
    "state=completed",
    "state=failed&state=timeout",
    "state=preempted",
    "cluster=alex",
    "cluster=woody&state=out_of_memory",
    "cluster=running&state=running",
    "start-time={week}",
    "start-time={week}&cluster=fritz",
    "start-time={week}&state=failed",
    "start-time={week}&cluster=alex&state=completed",
    "with-metadata=true",
    "user={user}",
    "user={user}&state=failed",
    "project={project}",
    "project={project}&cluster=fritz",
    "partition={partition}",
    "sub-cluster={sub_cluster}",
    "job-id={job_id}",
    "host={host}",
    "tag={tag}",
    "duration=86400-90000",
    "user=nobody",
    "array-job-id=1",
    "tag=none:none",
    "project=none&state=failed",
    "partition=none",
    "host=none&cluster=fritz",
    "num-nodes=1000-2000",
    "stop-time={week}",
    "start-time={week}&fields=jobId,user,numNodes&format=csv",
)
_BY_NAME = """
SELECT name, user_name, started_at, node_hours
FROM jobs_view
WHERE name LIKE %s
ORDER BY started_at DESC
LIMIT 25
"""
_WEEK_SECONDS = 604_800
_PAGES = 10_000
_LAST = """
SELECT start_time, user_name AS user, project, partition, sub_cluster, job_id,
       split_part((job_hosts(resources, start_time))[1], ' ', 1) AS host,
       (SELECT type || ':' || name FROM tags ORDER BY id LIMIT 1) AS tag
FROM jobs
WHERE cluster = 'fritz'
ORDER BY start_time DESC
LIMIT 1
"""


def first_pages(running: Site) -> Iterator[Row]:
    """Compare each filter's first page in the large database and in the small one."""
    for pattern in _FILTERS:
        waits: dict[str, list[float]] = {}
        for _ in range(_ROUNDS):
            for context in (running.small, running.large):
                query = pattern.format(**_facts(context))
                waits.setdefault(context.name, []).append(_wait(context, f"?{query}"))
        small, large = waits.values()
        yield Row(
            what=f"first page large / small: {pattern or 'no filter'}",
            measured=median(large) / median(small),
            bar=1.3,
            details=f"p50 ms: large {spread(large, 1e3, 2)}, small {spread(small, 1e3, 2)}",
        )


def _facts(context: Context) -> dict[str, str]:
    """Return what the filters ask for: of the last job of the past, and its week."""
    with context.database.session() as conn, conn.cursor(row_factory=dict_row) as cursor:
        job = cursor.execute(_LAST).fetchone()
    assert job is not None
    week = f"{job['start_time'] - _WEEK_SECONDS}-{job['start_time']}"
    found = {"week": week, **{name: str(value) for name, value in job.items()}}
    return {name: urllib.parse.quote(value) for name, value in found.items()}


def _wait(context: Context, query: str) -> float:
    order = driver.Order(
        socket=context.socket,
        request=get(f"/api/jobs/{query}", context.admin),
        count=_REQUESTS,
    )
    result = driver.run(order)
    result.require(200)
    return result.p50


def deep_pages(running: Site) -> Iterator[Row]:
    """Compare the cursor's 10,000th page with its first."""
    context = running.large
    pages = min(_PAGES, context.number("SELECT count(*) FROM jobs") // 25 - 2)
    deep = _cursor(context, pages)
    waits: dict[str, list[float]] = {"first": [], "deep": []}
    for _ in range(_ROUNDS):
        waits["first"].append(_wait(context, f"?cursor={_cursor(context, 1)}"))
        waits["deep"].append(_wait(context, f"?cursor={deep}"))
    yield Row(
        what=f"cursor page {pages:,} / cursor page 1, large database: p50",
        measured=median(waits["deep"]) / median(waits["first"]),
        bar=1.3,
        details=f"ms: deep {spread(waits['deep'], 1e3, 2)}, first {spread(waits['first'], 1e3, 2)}",
    )


def _cursor(context: Context, pages: int) -> str:
    """Return the cursor that follows so many pages of 25, reached in larger steps."""
    items, cursor = pages * 25, ""
    while items > 0:
        step = min(items, 10_000)
        query = f"?items-per-page={step}" + (f"&cursor={cursor}" if cursor else "")
        cursor = ask(context, query)["nextCursor"]
        items -= step
    return cursor


def ask(context: Context, query: str) -> Any:
    """Return a list as the service answers it."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = sockets.socket(sockets.AF_UNIX)
    connection.sock.connect(context.socket)
    connection.request("GET", f"/api/jobs/{query}", headers={"X-Auth-Token": context.admin})
    answer = connection.getresponse()
    content = json.loads(answer.read())
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"GET {query} is answered with {answer.status}: {content}")
    return content


def statistics(running: Site) -> Iterator[Row]:
    """Count the jobs of a day and of a month, 10 million a year, with a time line."""
    context = running.large
    last = context.number("SELECT max(start_time) FROM jobs WHERE cluster = 'fritz'")
    for days, bar in ((1, 200), (30, 1000)):
        query = f"stats/?range={last - days * 86_400}-{last}&group-by=user&timeline"
        order = driver.Order(
            socket=context.socket,
            request=get(f"/api/jobs/{query}", context.admin),
            count=_ROUNDS,
        )
        result = driver.run(order)
        result.require(200)
        what = f"statistics of {days} days by user, with a time line: p50"
        yield Row(what=what, measured=1000 * result.p50, bar=bar, unit="ms")


def views(running: Site) -> Iterator[Row]:
    """Find jobs by the beginning of their names in jobs_view: rare, frequent and unknown names."""
    with running.large.database.session() as conn:
        for name in ("rotor%", "relax%", "%", "nothing%"):
            waits: list[float] = []
            for _ in range(_REQUESTS):
                started = time.perf_counter()
                conn.execute(_BY_NAME, [name]).fetchall()
                waits.append(time.perf_counter() - started)
            what = f"jobs_view, latest 25 with name LIKE '{name}': p50"
            yield Row(what=what, measured=1000 * median(waits), bar=50, unit="ms")


def everything_running(running: Site) -> Iterator[Row]:
    """List 20,000 running jobs with a worker that has answered small lists only."""
    context = running.small
    settings = {
        "CCAPI_CONFIG": "/dev/null",
        "CCAPI_DATABASE_URL": context.url,
        "CCAPI_ARCHIVE_ROOT": str(context.archive),
    }
    socket = running.directory / "running.sock"
    with served(socket, settings, 1) as service:
        small = driver.Order(socket=str(socket), request=get("/api/jobs/", context.admin), count=50)
        driver.run(small).require(200)
        before = service.peak_memory()
        result = driver.run(
            driver.Order(socket=str(socket), request=get(_RUNNING, context.admin), count=_ROUNDS)
        )
        result.require(200)
        grown = service.peak_memory() - before
    jobs = context.number("SELECT count(*) FROM jobs WHERE job_state = 'running'")
    what = f"{jobs:,} running jobs in one answer: "
    size = f"{result.sizes[0] / 1e6:.1f} MB"
    yield Row(what=f"{what}memory", measured=grown / 1e6, bar=30, unit="MB", details=size)
    first = median(result.first_bytes)
    yield Row(what=f"{what}first byte", measured=1000 * first, bar=200, unit="ms")
    rates = [jobs / wait for wait in result.waits]
    yield Row(
        what=f"{what}jobs a second",
        measured=median(rates),
        bar=20_000,
        unit="",
        at_least=True,
        details=f"least / median / most: {spread(rates)}",
    )
