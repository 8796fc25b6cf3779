"""Generate load in a separate process: `python -m bench.load_generator`.

The process reads a LoadSpec from standard input and prints a LoadResult, both as JSON.
"""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import repeat
from pathlib import Path
from statistics import median

from bench.http_client import ClientPool
from bench.http_requests import NUMBER

_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, kw_only=True)
class LoadSpec:
    """Which request to send to which Unix socket, how often and how fast.

    `request` contains the placeholder NUMBER; the numbers count up from `first_number`.
    With a `rate` (per second) requests are sent on schedule, whether or not responses arrive.
    Without one, each client sends its next request when it has a response.
    The load ends after `count` requests or `seconds`.
    """

    socket: str
    request: str
    first_number: int = 10_000_000
    count: int | None = None
    seconds: float | None = None
    clients: int = 1
    rate: float | None = None


@dataclass(frozen=True, kw_only=True)
class LoadResult:
    """The responses to a load, in the order of their arrival; all times in seconds.

    Latencies count from the time when a request was due, so a stall delays all that were due in it.
    """

    statuses: dict[str, int]
    elapsed: float
    cpu_seconds: float
    latencies: list[float] = field(repr=False)
    first_byte_latencies: list[float] = field(repr=False)
    sizes: list[int] = field(repr=False)

    @property
    def count(self) -> int:
        """Return the number of responses."""
        return len(self.latencies)

    @property
    def per_second(self) -> float:
        """Return the number of responses per second."""
        return self.count / self.elapsed

    @property
    def p50(self) -> float:
        """Return the median latency."""
        return median(self.latencies)

    @property
    def p99(self) -> float:
        """Return the 99th percentile of the latencies."""
        return percentile(self.latencies, 99)

    def require_status(self, *statuses: int) -> None:
        """Exit if any response has another status."""
        if not set(self.statuses) <= {str(status) for status in statuses}:
            sys.exit(f"expected statuses {statuses}, got {self.statuses}")


def percentile(values: list[float], percent: float) -> float:
    """Return a percentile of the values, without interpolation."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def start(spec: LoadSpec) -> subprocess.Popen[str]:
    """Start a load in the background; `finish` returns its result."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.load_generator"],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(asdict(spec)))
    process.stdin.close()
    return process


def finish(process: subprocess.Popen[str]) -> LoadResult:
    """Wait for a load that `start` started, and return its result."""
    assert process.stdout is not None
    with process:
        return LoadResult(**json.loads(process.stdout.read()))


def run(spec: LoadSpec) -> LoadResult:
    """Generate a load and return its result."""
    return finish(start(spec))


def main() -> None:
    """Generate the load that standard input specifies, and print its result."""
    spec = LoadSpec(**json.load(sys.stdin))
    head, tail = (part.encode() for part in spec.request.split(NUMBER, 1))
    first = spec.first_number
    clients = ClientPool(
        spec.socket, lambda index: b"%b%08d%b" % (head, first + index, tail), spec.clients
    )
    started = time.monotonic()
    clients.run(_due_times(spec, started), spec.seconds)
    elapsed = time.monotonic() - started
    responses = clients.responses
    result = LoadResult(
        statuses={str(status): n for status, n in Counter(r.status for r in responses).items()},
        elapsed=elapsed,
        cpu_seconds=time.process_time(),
        latencies=[response.end - response.due for response in responses],
        first_byte_latencies=[response.first_byte - response.due for response in responses],
        sizes=[response.size for response in responses],
    )
    print(json.dumps(asdict(result)))


def _due_times(spec: LoadSpec, start: float) -> Iterator[float]:
    """Return when each request is due on the monotonic clock; 0 without a rate."""
    if spec.rate is None:
        return repeat(0.0) if spec.count is None else repeat(0.0, spec.count)
    count = spec.count or round(spec.rate * (spec.seconds or 0))
    interval = 1 / spec.rate
    return (start + index * interval for index in range(count))


if __name__ == "__main__":
    main()
