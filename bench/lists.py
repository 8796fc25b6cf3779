"""Lists: first pages, deep pages, all running jobs, polled lists; statistics and views."""

import http.client
import json
import socket as sockets
import time
import urllib.parse
from collections.abc import Iterator
from statistics import median
from typing import Any

from psycopg.rows import dict_row

from bench import load_generator
from bench.http_requests import get
from bench.load_generator import LoadResult, LoadSpec
from bench.report import Row, spread
from bench.testbed import Instance, Testbed, create_token, run_ccapi
from ccapi.model.token import Role, Scope
from ccapi.service import rollups

_ROUNDS = 5
_REQUESTS = 40
_PAGES = 10_000
_POLLERS = 100
_POLL_INTERVAL_SECONDS = 5
_POLL_DURATION_SECONDS = 30
_CACHE_TTL_SECONDS = 1
_DAY_SECONDS = 86_400
WEEK_SECONDS = 604_800
_RUNNING_JOBS = "/api/jobs/?state=running&items-per-page=9999999&page=1&with-metadata=false"
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
_JOBS_BY_NAME = """
SELECT name, user_name, started_at, node_hours
FROM jobs_view
WHERE name LIKE %s
ORDER BY started_at DESC
LIMIT 25
"""
_LATEST_JOB = """
SELECT start_time, user_name AS user, project, partition, sub_cluster, job_id,
       split_part((job_hosts(resources, start_time))[1], ' ', 1) AS host,
       (SELECT type || ':' || name FROM tags ORDER BY id LIMIT 1) AS tag
FROM jobs
WHERE cluster = 'fritz'
ORDER BY start_time DESC
LIMIT 1
"""


def first_pages(testbed: Testbed) -> Iterator[Row]:
    """Compare the first page by each filter in the large database and in the small one."""
    for pattern in _FILTERS:
        latencies: dict[str, list[float]] = {}
        for _ in range(_ROUNDS):
            for instance in (testbed.small, testbed.large):
                query = "?" + pattern.format(**_filter_values(instance))
                latencies.setdefault(instance.name, []).append(_send(instance, query).p50)
        small, large = latencies.values()
        yield Row(
            what=f"first page large / small: {pattern or 'no filter'}",
            measured=median(large) / median(small),
            bar=1.3,
            details=f"p50 ms: large {spread(large, 1e3, 2)}, small {spread(small, 1e3, 2)}",
        )


def _filter_values(instance: Instance) -> dict[str, str]:
    """Return values for the filters: those of the latest finished job, and the week before it."""
    with instance.database.session() as conn, conn.cursor(row_factory=dict_row) as cursor:
        job = cursor.execute(_LATEST_JOB).fetchone()
    assert job is not None
    week = f"{job['start_time'] - WEEK_SECONDS}-{job['start_time']}"
    return {name: urllib.parse.quote(str(value)) for name, value in {**job, "week": week}.items()}


def limited_token(testbed: Testbed) -> Iterator[Row]:
    """Compare a token that is limited to a user or project with a filter for the same."""
    instance = testbed.large
    values = _filter_values(instance)
    scopes = {
        "user": Scope(users=(urllib.parse.unquote(values["user"]),)),
        "project": Scope(projects=(urllib.parse.unquote(values["project"]),)),
    }
    for name, scope in scopes.items():
        # An admin's: a reader's answer may come from the response cache.
        token = create_token(instance.database, Role.ADMIN, scope)
        for query in ("items-per-page=25", "state=failed", "total=true"):
            filtered: list[float] = []
            limited: list[float] = []
            for _ in range(_ROUNDS):
                filtered.append(_send(instance, f"?{query}&{name}={values[name]}").p50)
                limited.append(_send(instance, f"?{query}", token=token).p50)
            yield Row(
                what=f"limited token / filter by {name}, large database: {query}",
                measured=median(limited) / median(filtered),
                bar=1.3,
                details=f"p50 ms: token {spread(limited, 1e3, 2)}, "
                f"filter {spread(filtered, 1e3, 2)}",
            )


def _send(
    instance: Instance, query: str, count: int = _REQUESTS, token: str | None = None
) -> LoadResult:
    """Send the same GET several times in turn, below /api/jobs/ or to an absolute path."""
    path = query if query.startswith("/") else f"/api/jobs/{query}"
    request = get(path, token or instance.admin_token)
    result = load_generator.run(LoadSpec(socket=instance.socket, request=request, count=count))
    result.require_status(200)
    return result


def deep_pages(testbed: Testbed) -> Iterator[Row]:
    """Compare the 10,000th page of a cursor with its first."""
    instance = testbed.large
    pages = min(_PAGES, instance.query_number("SELECT count(*) FROM jobs") // 25 - 2)
    cursors = {"first": _find_cursor(instance, 1), "deep": _find_cursor(instance, pages)}
    latencies: dict[str, list[float]] = {"first": [], "deep": []}
    for _ in range(_ROUNDS):
        for page, cursor in cursors.items():
            latencies[page].append(_send(instance, f"?cursor={cursor}").p50)
    first, deep = latencies.values()
    yield Row(
        what=f"cursor page {pages:,} / cursor page 1, large database: p50",
        measured=median(deep) / median(first),
        bar=1.3,
        details=f"ms: deep {spread(deep, 1e3, 2)}, first {spread(first, 1e3, 2)}",
    )


def _find_cursor(instance: Instance, pages: int) -> str:
    """Return the cursor after a number of pages of 25 jobs; larger pages lead there sooner."""
    remaining, cursor = pages * 25, ""
    while remaining > 0:
        step = min(remaining, 10_000)
        query = f"?items-per-page={step}" + (f"&cursor={cursor}" if cursor else "")
        cursor = get_json(instance.socket, instance.admin_token, query)["nextCursor"]
        remaining -= step
    return cursor


def get_json(socket: str, token: str, query: str) -> Any:
    """Send a GET below /api/jobs/ to a Unix socket, and return the content of the response."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = sockets.socket(sockets.AF_UNIX)
    connection.sock.connect(socket)
    headers = {"X-Auth-Token": token}
    connection.request("GET", f"/api/jobs/{query}", headers=headers)
    response = connection.getresponse()
    content = json.loads(response.read())
    connection.close()
    if response.status != 200:
        raise RuntimeError(f"GET {query} failed with status {response.status}: {content}")
    return content


def statistics(testbed: Testbed) -> Iterator[Row]:
    """Measure statistics without and with roll-ups; a year has 10 million jobs."""
    instance = testbed.large
    end = instance.query_number("SELECT max(start_time) FROM jobs WHERE cluster = 'fritz'")

    def milliseconds(path: str, days: int, query: str = "") -> float:
        path = f"{path}?range={end - days * _DAY_SECONDS}-{end}{query}"
        return 1000 * _send(instance, path, _ROUNDS).p50

    by_user = "&group-by=user"
    instance.execute("DELETE FROM rollup_days; DELETE FROM rollup_changes")
    rows = [
        ("statistics of a day by user, with timeline", "stats/", 1, f"{by_user}&timeline", 100),
        ("statistics of a month without roll-ups", "stats/", 30, f"{by_user}&timeline", None),
        ("statistics of a week by user, with waits", "stats/", 7, f"{by_user}&waits", None),
        ("hosts of 30 days without roll-ups", "/api/hosts/", 30, "", None),
    ]
    for what, path, days, query, bar in rows:
        yield Row(what=f"{what}: p50", measured=milliseconds(path, days, query), bar=bar, unit="ms")
    started = time.monotonic()
    days = sum(rollups.rebuild(instance.database, end + 2 * _DAY_SECONDS))
    seconds = time.monotonic() - started
    yield Row(what=f"ccapi rollup of {days} days", measured=seconds, bar=None, unit="s")
    size = instance.query_number(
        "SELECT sum(pg_total_relation_size(oid)) FROM pg_class "
        "WHERE relname LIKE 'rollup%' AND relkind = 'r'"
    )
    yield Row(what="roll-ups on disk", measured=size / 1e6, bar=None, unit="MB")
    year = f"{by_user}&end-states&histogram=duration&histogram=num-nodes"
    rows = [
        ("statistics of a month by user, with timeline", "stats/", 30, f"{by_user}&timeline", 1000),
        ("statistics of a year by user, with histograms", "stats/", 365, year, 1000),
        ("statistics of a year, with timeline", "stats/", 365, "&timeline", 1000),
        ("statistics of a year by user, with waits", "stats/", 365, f"{by_user}&waits", None),
        ("statistics of a year by month", "stats/", 365, "&group-by=month", 1000),
        ("hosts of 30 days", "/api/hosts/", 30, "", 500),
    ]
    for what, path, days, query, bar in rows:
        yield Row(what=f"{what}: p50", measured=milliseconds(path, days, query), bar=bar, unit="ms")


def views(testbed: Testbed) -> Iterator[Row]:
    """Find jobs in jobs_view by prefixes of their names: rare, common, empty and unknown ones."""
    with testbed.large.database.session() as conn:
        for pattern in ("rotor%", "relax%", "%", "nothing%"):
            latencies: list[float] = []
            for _ in range(_REQUESTS):
                start = time.perf_counter()
                conn.execute(_JOBS_BY_NAME, [pattern]).fetchall()
                latencies.append(time.perf_counter() - start)
            what = f"jobs_view, latest 25 with name LIKE '{pattern}': p50"
            yield Row(what=what, measured=1000 * median(latencies), bar=50, unit="ms")


def running_jobs(testbed: Testbed) -> Iterator[Row]:
    """List 20,000 running jobs with a worker that has sent only small lists before."""
    instance = testbed.small
    socket = testbed.directory / "running.sock"
    with run_ccapi(socket, instance.settings, workers=1) as server:
        small, large = (
            LoadSpec(socket=str(socket), request=get(path, instance.admin_token), count=count)
            for path, count in (("/api/jobs/", 50), (_RUNNING_JOBS, _ROUNDS))
        )
        load_generator.run(small).require_status(200)
        before = server.peak_memory()
        result = load_generator.run(large)
        result.require_status(200)
        growth = server.peak_memory() - before
    jobs = instance.query_number("SELECT count(*) FROM jobs WHERE job_state = 'running'")
    what = f"{jobs:,} running jobs in one response: "
    size = f"{result.sizes[0] / 1e6:.1f} MB"
    yield Row(what=f"{what}memory", measured=growth / 1e6, bar=30, unit="MB", details=size)
    first_byte = median(result.first_byte_latencies)
    yield Row(what=f"{what}first byte", measured=1000 * first_byte, bar=200, unit="ms")
    rates = [jobs / latency for latency in result.latencies]
    yield Row(
        what=f"{what}jobs per second",
        measured=median(rates),
        bar=20_000,
        unit="",
        at_least=True,
        details=f"min / median / max: {spread(rates)}",
    )


def pollers(testbed: Testbed) -> Iterator[Row]:
    """Poll one list from 100 dashboards every 5 seconds, and count the queries in PostgreSQL."""
    instance = testbed.small
    before, start = _count_index_scans(instance), time.monotonic()
    spec = LoadSpec(
        socket=instance.socket,
        request=get("/api/jobs/?state=running", instance.reader_token),
        clients=_POLLERS,
        rate=_POLLERS / _POLL_INTERVAL_SECONDS,
        seconds=_POLL_DURATION_SECONDS,
    )
    result = load_generator.run(spec)
    result.require_status(200)
    seconds = time.monotonic() - start
    queries = _count_index_scans(instance) - before
    workers = len(instance.server.workers())
    yield Row(
        what="100 pollers every 5 s: queries per cache TTL and worker",
        measured=queries / (seconds / _CACHE_TTL_SECONDS) / workers,
        bar=1.5,
        unit="",
        details=f"{result.count} responses, {queries} queries in {seconds:.0f} s; "
        f"{workers} workers; p99 {1000 * result.p99:.1f} ms",
    )


def _count_index_scans(instance: Instance) -> int:
    """Return how often PostgreSQL has scanned the index of running jobs."""
    # A busy backend reports its statistics with a delay.
    time.sleep(2)
    return instance.query_number(
        "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'jobs_running'"
    )
