"""CPU time per request in the workers, in multiples of an empty Flask route.

Rounds of all targets alternate on one machine. The route that sleeps for 1 ms shows what a wait
for the database costs a worker's CPU caches, whatever the worker does afterwards.
"""

from collections.abc import Iterator
from statistics import median

from bench import load_generator
from bench.http_requests import JOB_NUMBERS, get, start_job
from bench.load_generator import LoadSpec
from bench.report import Row, spread
from bench.server import Server
from bench.testbed import Instance, Testbed

_CLIENTS = 4
_ROUNDS = 7
_REQUESTS = {"empty": 3000, "sleep": 1000}
_DEFAULT_REQUESTS = 500
_LIST = "/api/jobs/?state=completed"
_ROWS: tuple[tuple[str, str, float | None], ...] = (
    ("sleep", "CPU of an empty route that sleeps for 1 ms", None),
    ("start", "CPU of a start_job (2 KB, 4 nodes)", 5.0),
    ("list", "CPU of a list of 25 jobs with tags and statistics", 6.0),
    ("cached", "CPU of a cached list", 2.5),
)


def compare_with_empty_route(testbed: Testbed) -> Iterator[Row]:
    """Compare a start, a list, a cached list and a sleeping route with an empty Flask route."""
    small = testbed.small
    _tag_first_page(small)
    targets = {
        "empty": (testbed.empty, get("/", small.admin_token)),
        "sleep": (testbed.empty, get("/sleep", small.admin_token)),
        "start": (small.server, start_job(small.admin_token)),
        # Only the lists of readers are cached.
        "list": (small.server, get(_LIST, small.admin_token)),
        "cached": (small.server, get(_LIST, small.reader_token)),
    }
    costs: dict[str, list[float]] = {name: [] for name in targets}
    for number in range(1 + _ROUNDS):
        for name, (server, request) in targets.items():
            cost = _cpu_per_request(server, request, _REQUESTS.get(name, _DEFAULT_REQUESTS))
            # The first round warms up.
            if number:
                costs[name].append(cost)
    for name, what, bar in _ROWS:
        yield Row(
            what=what,
            measured=median(costs[name]) / median(costs["empty"]),
            bar=bar,
            unit="x empty route",
            details=f"us per request, min / median / max: {spread(costs[name], 1e6)}; "
            f"empty Flask route {spread(costs['empty'], 1e6)}",
        )


def _tag_first_page(instance: Instance) -> None:
    """Give each job of the first page two tags."""
    instance.execute(
        "INSERT INTO job_tags (job, tag) "
        "SELECT j.id, t.id "
        "FROM (SELECT id FROM jobs WHERE job_state = 'completed' "
        "      ORDER BY start_time DESC, id DESC LIMIT 50) AS j, "
        "     (SELECT id FROM tags ORDER BY id LIMIT 2) AS t "
        "ON CONFLICT DO NOTHING"
    )


def _cpu_per_request(server: Server, request: str, count: int) -> float:
    """Return the workers' CPU seconds per request."""
    before = server.cpu_seconds()
    spec = LoadSpec(
        socket=str(server.socket),
        request=request,
        first_number=JOB_NUMBERS.reserve(count),
        count=count,
        clients=_CLIENTS,
    )
    load_generator.run(spec).require_status(200, 201)
    return (server.cpu_seconds() - before) / count
