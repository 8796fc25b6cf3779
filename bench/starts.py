"""How many starts a second, and how soon each is answered."""

import math
from collections.abc import Iterator
from statistics import median

from bench import driver, pgbench, site
from bench.cpu import NUMBERS
from bench.site import Context, Site
from bench.table import Row, spread

_CLIENTS = 16
_ROUNDS = 3
_ROUND_SECONDS = 5
_MANY = 1_001


def throughput(running: Site) -> Iterator[Row]:
    """Compare 16 clients of the service with 16 clients of PostgreSQL alone."""
    service, alone, shares = [], [], []
    for _ in range(_ROUNDS):
        result = _started(running.small, clients=_CLIENTS, seconds=_ROUND_SECONDS)
        service.append(result.per_second)
        shares.append(result.cpu / result.elapsed)
        alone.append(
            pgbench.starts_per_second(
                running.postgres, running.small, clients=_CLIENTS, seconds=_ROUND_SECONDS
            )
        )
    yield Row(
        what="start_job throughput, 16 clients / pgbench, its very SQL",
        measured=median(service) / median(alone),
        bar=0.20,
        at_least=True,
        details=f"a second: service {spread(service)}, pgbench {spread(alone)}; "
        f"the load itself took {100 * median(shares):.0f} % of a processor",
    )


def steady(running: Site, seconds: int) -> Iterator[Row]:
    """Send starts on schedule; a wait counts from when its start was due."""
    for rate, duration in ((500, 10), (100, seconds)):
        result = _started(running.small, clients=4_000, rate=rate, seconds=duration)
        yield _on_schedule(f"{rate} start_job a second for {duration} s: p99", result)


def _on_schedule(what: str, result: driver.Result) -> Row:
    failed = sum(n for status, n in result.statuses.items() if status != "201")
    return Row(
        what=what,
        measured=math.inf if failed else 1000 * result.p99,
        bar=500,
        unit="ms",
        details=f"{result.answered} answers {result.statuses}; "
        f"p50 {1000 * result.p50:.1f} ms, most {1000 * max(result.waits):.0f} ms",
    )


def burst(running: Site) -> Iterator[Row]:
    """Send an array's starts at once."""
    rounds = []
    for _ in range(_ROUNDS):
        result = _started(running.small, clients=_MANY, count=_MANY)
        result.require(201)
        rounds.append(max(result.waits))
    yield Row(
        what="1,001 start_job at once: the last is answered after",
        measured=median(rounds),
        bar=3,
        unit="s",
        details=f"all 201; least / median / most: {spread(rounds, 1, 2)} s",
    )


def stops(running: Site) -> Iterator[Row]:
    """Compare stops with archive and stops without, one after the other."""
    waits: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(_ROUNDS + 2):
        for status, rounds in waits.items():
            rounds.append(_stopped(running.small, status, 200).p50)
    yield Row(
        what="stop_job with archive / with monitoringStatus 0: p50",
        measured=median(waits[1]) / median(waits[0]),
        bar=2.0,
        details=f"ms: with archive {spread(waits[1], 1e3, 2)}, without {spread(waits[0], 1e3, 2)}",
    )


def _stopped(context: Context, monitoring_status: int, count: int) -> driver.Result:
    first = NUMBERS.following
    _started(context, count=count, clients=4, monitoringStatus=monitoring_status).require(201)
    result = driver.run(
        driver.Order(
            socket=context.socket,
            request=site.stop_job(context.admin),
            first=first,
            count=count,
        )
    )
    result.require(200)
    return result


def _started(
    context: Context,
    *,
    clients: int,
    count: int | None = None,
    seconds: float | None = None,
    rate: float | None = None,
    **changed: int,
) -> driver.Result:
    order = driver.Order(
        socket=context.socket,
        request=site.start_job(context.admin, **changed),
        first=NUMBERS.following,
        clients=clients,
        count=count,
        seconds=seconds,
        rate=rate,
    )
    result = driver.run(order)
    NUMBERS.take(result.answered)
    return result
