"""Throughput and latency of starts and stops."""

import math
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import median

from bench import http_requests, load_generator, pgbench
from bench.http_requests import JOB_NUMBERS, start_job, stop_job
from bench.load_generator import LoadResult, LoadSpec
from bench.report import Row, spread
from bench.testbed import WORKERS, Instance, Testbed

_CLIENTS = 16
_ROUNDS = 3
_ROUND_SECONDS = 5
_ARRAY_TASKS = 1_001
_BATCH_LINES, _BATCHES_PER_WORKER = 1_000, 4
_STOPS = 200


def throughput(testbed: Testbed) -> Iterator[Row]:
    """Compare 16 clients of the service with 16 clients of PostgreSQL alone."""
    instance = testbed.small
    service, postgres, cpu_shares = [], [], []
    for _ in range(_ROUNDS):
        result = _start_jobs(instance, clients=_CLIENTS, seconds=_ROUND_SECONDS)
        service.append(result.per_second)
        cpu_shares.append(result.cpu_seconds / result.elapsed)
        postgres.append(
            pgbench.starts_per_second(
                testbed.postgres, instance, clients=_CLIENTS, seconds=_ROUND_SECONDS
            )
        )
    yield Row(
        what="start_job throughput, 16 clients / pgbench, same SQL",
        measured=median(service) / median(postgres),
        bar=0.20,
        at_least=True,
        details=f"per second: service {spread(service)}, pgbench {spread(postgres)}; "
        f"the load generator used {100 * median(cpu_shares):.0f} % of a processor",
    )


def batches(testbed: Testbed) -> Iterator[Row]:
    """Start jobs in batches of 1,000, from as many clients as there are workers."""
    rounds = []
    for _ in range(_ROUNDS):
        requests = [
            http_requests.batch(
                testbed.small.admin_token, JOB_NUMBERS.reserve(_BATCH_LINES), _BATCH_LINES
            ).encode()
            for _ in range(WORKERS * _BATCHES_PER_WORKER)
        ]
        began = time.monotonic()
        with ThreadPoolExecutor(WORKERS) as clients:
            answers = list(clients.map(partial(_exchange, testbed.small.socket), requests))
        rounds.append(len(requests) * _BATCH_LINES / (time.monotonic() - began))
        if {answer.count(b'"status":201,') for answer in answers} != {_BATCH_LINES}:
            sys.exit(f"expected {_BATCH_LINES} lines with status 201, got {answers[0][:200]!r}")
    yield Row(
        what="starts in batches of 1,000",
        measured=median(rounds),
        bar=3_000,
        unit="per second",
        at_least=True,
        details=f"min / median / max: {spread(rounds)}, {WORKERS} clients",
    )


def _exchange(path: str, request: bytes) -> bytes:
    """Send a request to a Unix socket, and return the response."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(request)
        with connection.makefile("rb") as response:
            return response.read()


def steady(testbed: Testbed, seconds: int = 180) -> Iterator[Row]:
    """Send starts on schedule; latencies count from when each start was due."""
    for rate, duration in ((500, 10), (100, seconds)):
        result = _start_jobs(testbed.small, clients=4_000, rate=rate, seconds=duration)
        yield Row(
            what=f"{rate} start_job per second for {duration} s: p99",
            measured=1000 * result.p99 if set(result.statuses) == {"201"} else math.inf,
            bar=500,
            unit="ms",
            details=f"{result.count} responses {result.statuses}; "
            f"p50 {1000 * result.p50:.1f} ms, max {1000 * max(result.latencies):.0f} ms",
        )


def burst(testbed: Testbed) -> Iterator[Row]:
    """Send the starts of a job array at once."""
    rounds = []
    for _ in range(_ROUNDS):
        result = _start_jobs(testbed.small, clients=_ARRAY_TASKS, count=_ARRAY_TASKS)
        result.require_status(201)
        rounds.append(max(result.latencies))
    yield Row(
        what="1,001 start_job at once: last response",
        measured=median(rounds),
        bar=3,
        unit="s",
        details=f"all 201; min / median / max: {spread(rounds, 1, 2)} s",
    )


def stops(testbed: Testbed) -> Iterator[Row]:
    """Compare stops of archived jobs with stops of others, in turn."""
    latencies: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(_ROUNDS + 2):
        for monitoring_status, rounds in latencies.items():
            rounds.append(_start_and_stop_jobs(testbed.small, monitoring_status)[1].p50)
    without, archived = latencies.values()
    yield Row(
        what="stop_job with archive / with monitoringStatus 0: p50",
        measured=median(archived) / median(without),
        bar=2.0,
        details=f"ms: with archive {spread(archived, 1e3, 2)}, without {spread(without, 1e3, 2)}",
    )


def rollup_triggers(testbed: Testbed) -> Iterator[Row]:
    """Compare starts and stops with the triggers that record changes for roll-ups to none."""
    instance = testbed.small
    latencies: dict[str, tuple[list[float], list[float]]] = {
        "DISABLE": ([], []),
        "ENABLE": ([], []),
    }
    try:
        for _ in range(_ROUNDS + 2):
            for change, rounds in latencies.items():
                instance.execute(f"ALTER TABLE jobs {change} TRIGGER USER")
                results = _start_and_stop_jobs(instance, monitoring_status=0)
                for of_kind, result in zip(rounds, results, strict=True):
                    of_kind.append(result.p50)
    finally:
        instance.execute("ALTER TABLE jobs ENABLE TRIGGER USER")
    for kind, without, others in zip(("start", "stop"), *latencies.values(), strict=True):
        yield Row(
            what=f"{kind}_job with triggers for roll-ups / without: p50",
            measured=median(others) / median(without),
            bar=1.1,
            details=f"ms: with {spread(others, 1e3, 2)}, without {spread(without, 1e3, 2)}",
        )


def _start_and_stop_jobs(
    instance: Instance, monitoring_status: int
) -> tuple[LoadResult, LoadResult]:
    """Start jobs, then stop them one after the other."""
    first = JOB_NUMBERS.next
    starts = _start_jobs(instance, count=_STOPS, clients=4, monitoringStatus=monitoring_status)
    starts.require_status(201)
    spec = LoadSpec(
        socket=instance.socket,
        request=stop_job(instance.admin_token),
        first_number=first,
        count=_STOPS,
    )
    result = load_generator.run(spec)
    result.require_status(200)
    return starts, result


def _start_jobs(
    instance: Instance,
    *,
    clients: int,
    count: int | None = None,
    seconds: float | None = None,
    rate: float | None = None,
    **overrides: int,
) -> LoadResult:
    spec = LoadSpec(
        socket=instance.socket,
        request=start_job(instance.admin_token, **overrides),
        first_number=JOB_NUMBERS.next,
        clients=clients,
        count=count,
        seconds=seconds,
        rate=rate,
    )
    result = load_generator.run(spec)
    JOB_NUMBERS.reserve(result.count)
    return result
