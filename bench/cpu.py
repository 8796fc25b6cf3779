"""What a request costs the workers, in bare routes: rounds in turn, on one machine.

Beside them a bare route that sleeps for a millisecond: what a worker's caches lose while it waits
for the database, whatever it does then.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median

from bench import driver, site
from bench.service import Service, get
from bench.site import Context, Site
from bench.table import Row, spread

_CLIENTS = 4
_ROUNDS = 7
_REQUESTS = {"bare": 3000, "waiting": 1000}
_DEFAULT_REQUESTS = 500
LIST = "/api/jobs/?state=completed"


@dataclass
class Numbers:
    """Gives each round of starts numbers that no other has."""

    following: int = 10_000_000

    def take(self, count: int) -> int:
        """Return the first of so many new numbers."""
        first, self.following = self.following, self.following + count
        return first


NUMBERS = Numbers()


def rows(running: Site) -> Iterator[Row]:
    """Compare a start, a list, a list from the short cache and a wait with the bare route."""
    small = running.small
    _tag(small)
    targets = {
        "bare": (running.bare, get("/", small.admin)),
        "waiting": (running.bare, get("/after-a-wait", small.admin)),
        "start": (small.service, site.start_job(small.admin)),
        "list": (small.service, get(LIST, small.admin)),
        "cached": (small.service, get(LIST, small.reader)),
    }
    costs = _measure(targets)
    bare = median(costs["bare"])
    compared: tuple[tuple[str, str, float | None], ...] = (
        ("waiting", "CPU of a bare route that waits for 1 ms / bare route", None),
        ("start", "CPU of a start_job (2 KB, 4 nodes) / bare route", 5.0),
        ("list", "CPU of a list of 25 jobs with tags and statistics / bare", 6.0),
        ("cached", "CPU of a list from the short cache / bare route", 2.5),
    )
    for name, what, bar in compared:
        details = f"us a request, least / median / most: {spread(costs[name], 1e6)}"
        details += f"; bare route {spread(costs['bare'], 1e6)}"
        yield Row(what=what, measured=median(costs[name]) / bare, bar=bar, details=details)


def _tag(context: Context) -> None:
    """Give the jobs on the first page two tags each."""
    context.execute(
        "INSERT INTO job_tags (job, tag) "
        "SELECT j.id, t.id "
        "FROM (SELECT id FROM jobs WHERE job_state = 'completed' "
        "      ORDER BY start_time DESC, id DESC LIMIT 50) AS j, "
        "     (SELECT id FROM tags ORDER BY id LIMIT 2) AS t "
        "ON CONFLICT DO NOTHING"
    )


def _measure(targets: Mapping[str, tuple[Service, str]]) -> dict[str, list[float]]:
    """Return the seconds per request of each round; a first round warms up."""
    costs: dict[str, list[float]] = {name: [] for name in targets}
    for number in range(1 + _ROUNDS):
        for name, (service, request) in targets.items():
            cost = _cost(service, request, _REQUESTS.get(name, _DEFAULT_REQUESTS))
            if number:
                costs[name].append(cost)
    return costs


def _cost(service: Service, request: str, count: int) -> float:
    first = NUMBERS.take(count)
    before = service.cpu()
    result = driver.run(
        driver.Order(
            socket=str(service.socket), request=request, first=first, count=count, clients=_CLIENTS
        )
    )
    result.require(200, 201)
    return (service.cpu() - before) / count
