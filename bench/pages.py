"""The pages: time and size of each, and what it costs beyond the API."""

import gzip
import http.client
import re
import socket as sockets
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from psycopg.rows import dict_row

from bench import load_generator
from bench.http_requests import NUMBER, get
from bench.load_generator import LoadSpec
from bench.report import Row, spread
from bench.testbed import Instance, Testbed
from ccapi.model.token import ValidToken
from ccapi.service import sessions, tokens

_ROUNDS, _REQUESTS = 3, 7
_MAX_HTML_MS, _MAX_EXTRA_MS = 200, 5
_MAX_GZIP_KB, _MAX_REQUESTS = 60, 4
_DAY_SECONDS = 86_400
_STATS = "/api/jobs/stats/?range={day}-&timeline&end-states"
_HOST = "/api/jobs/?cluster=fritz&host={host}&items-per-page=20"
_WEEK = "/api/jobs/stats/?range={week}-&end-states"
# Each page of the large database, and the requests of the API that it is made of.
_PAGES = {
    "/jobs?state=running": ("/api/jobs/?state=running",),
    "/jobs?state=running&items-per-page=100": ("/api/jobs/?state=running&items-per-page=100",),
    "/jobs": ("/api/jobs/",),
    "/jobs?user={user}&state=failed": ("/api/jobs/?user={user}&state=failed",),
    "/jobs?host={host}": ("/api/jobs/?host={host}",),
    "/jobs/{id}": (
        "/api/jobs/{id}",
        # Its neighbours.
        f"{_HOST}&state=running&start-time={{before}}-{{stop}}",
        f"{_HOST}&stop-time={{start}}-&start-time={{before}}-{{stop}}",
    ),
    "/": (
        "/api/jobs/used_nodes?ts={now}",
        *(f"{_STATS}&cluster={name}" for name in ("alex", "fritz", "running", "woody")),
        "/api/jobs/?state=running&items-per-page=1&total=true",
    ),
    "/clusters/running": (
        "/api/jobs/used_nodes?ts={now}&cluster=running",
        f"{_STATS}&cluster=running",
        *(f"{_STATS}&cluster=running&group-by={by}" for by in ("user", "project", "partition")),
        "/api/jobs/?state=running&items-per-page=1&total=true&cluster=running",
        "/api/hosts/?cluster=running&range={week}-",
    ),
    "/users/{running_user}": (
        f"{_WEEK}&user={{running_user}}&timeline",
        f"{_WEEK}&user={{running_user}}&group-by=project",
        f"{_WEEK}&user={{running_user}}&group-by=partition",
        "/api/jobs/?user={running_user}&items-per-page=20",
    ),
    "/hosts/f1000": (
        f"{_WEEK}&host=f1000&timeline",
        "/api/jobs/?host=f1000&state=running&items-per-page=20",
        "/api/jobs/?host=f1000&not-state=running&items-per-page=20",
        "/api/hosts/?cluster=running&range={week}-",
    ),
    "/statistics?last=24h&group-by=user": (
        f"{_STATS}&group-by=user&waits&limit=50&histogram=duration&histogram=num-nodes&histogram=wait",
    ),
}
_LATEST_JOB = """
SELECT id, user_name AS user, split_part((job_hosts(resources, start_time))[1], ' ', 1) AS host,
       start_time - 604800 AS before, start_time AS start, stop_time AS stop
FROM jobs
WHERE cluster = 'fritz'
ORDER BY start_time DESC
LIMIT 1
"""


def pages(testbed: Testbed) -> Iterator[Row]:
    """Open each page of the large database as an admin, whose answers are never cached."""
    instance = testbed.large
    secret = sessions.begin(instance.database, find_token(instance, instance.admin_token))
    values = _values(instance)
    yield from _first_load(instance, secret)
    for pattern, api_patterns in _PAGES.items():
        page, *api = (path.format(**values) for path in (pattern, *api_patterns))
        html, beneath = [], []
        for _ in range(_ROUNDS):
            html.append(_p50(instance, _page_request(page, secret)))
            beneath.append(
                sum(_p50(instance, get(path, instance.admin_token)) for path in api),
            )
        yield Row(
            what=f"page {pattern}, large database: p50",
            measured=median(html),
            bar=_MAX_HTML_MS if pattern.startswith("/jobs?") else None,
            unit="ms",
            details=f"ms: {spread(html, 1, 1)}; {len(api)} requests of the API: "
            f"{spread(beneath, 1, 1)}",
        )
        yield Row(
            what=f"page {pattern}: beyond the API",
            measured=min(html) - min(beneath),
            bar=_MAX_EXTRA_MS,
            unit="ms",
        )


def _values(instance: Instance) -> dict[str, str | int]:
    now = int(time.time())
    with instance.database.session() as conn, conn.cursor(row_factory=dict_row) as cursor:
        job = cursor.execute(_LATEST_JOB).fetchone()
    assert job is not None
    times = {"now": now, "day": now - _DAY_SECONDS, "week": now - 7 * _DAY_SECONDS}
    return {**job, **times, "running_user": "abcd100h"}


def find_token(instance: Instance, secret: str) -> ValidToken:
    """Return the valid token of a secret."""
    token = tokens.authenticate(instance.database, secret)
    assert token is not None
    return token


def _page_request(path: str, secret: str) -> str:
    """Return a GET request of a session; its number is in a header that the server ignores."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Cookie: ccapi={secret}\r\nX-Number: {NUMBER}\r\n\r\n"
    )


def _p50(instance: Instance, request: str) -> float:
    """Send a request several times, one after the other; return the median in milliseconds."""
    spec = LoadSpec(socket=instance.socket, request=request, count=_REQUESTS)
    result = load_generator.run(spec)
    result.require_status(200)
    return 1000 * result.p50


def _first_load(instance: Instance, secret: str) -> Iterator[Row]:
    """Load the list of running jobs and its files, as a browser does that has none of them."""
    page = fetch(Path(instance.socket), "/jobs?state=running", f"ccapi={secret}")
    files = re.findall(rb'(?:src|href)="(/static/[^"]+)"', page)
    bodies = [page, *(fetch(Path(instance.socket), file.decode(), "") for file in files)]
    yield Row(
        what="first load of /jobs?state=running, gzipped",
        measured=sum(len(gzip.compress(body)) for body in bodies) / 1000,
        bar=_MAX_GZIP_KB,
        unit="kB",
        details=f"HTML {len(page) / 1000:.1f} kB, which is sent uncompressed",
    )
    what = "first load of /jobs?state=running: requests"
    yield Row(what=what, measured=len(bodies), bar=_MAX_REQUESTS, unit="")


def fetch(path: Path, address: str, cookie: str, token: str = "") -> bytes:
    """Return the body of a page or a file, with the cookie of a session or with a token."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = sockets.socket(sockets.AF_UNIX)
    connection.sock.connect(str(path))
    headers = {"Cookie": cookie} if cookie else {"X-Auth-Token": token}
    connection.request("GET", address, headers=headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    if response.status != 200:
        raise RuntimeError(f"GET {address} failed with status {response.status}: {body!r}")
    return body
