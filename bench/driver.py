"""The load, in a process of its own: `python -m bench.driver` takes an Order, gives a Result."""

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

from bench.exchange import CachedResponse, Load

_ROOT = Path(__file__).resolve().parent.parent
# What a request's number is put in place of; as long as the number, so that lengths stay.
NUMBER = "@@@@@@@@"


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be sent where.

    `request` is the whole request, with NUMBER where its number goes, counted from `first`.
    With a `rate` it is sent so many times a second, on schedule, whatever comes back;
    without, each of the `clients` sends the next when it has its answer. It ends after
    `count` requests or after `seconds`.
    """

    socket: str
    request: str
    first: int = 10_000_000
    count: int | None = None
    seconds: float | None = None
    clients: int = 1
    rate: float | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of it; times in seconds, the answers' in the order in which they came.

    `waits` count from when a request was due: a stall makes all that were due in it late.
    """

    statuses: dict[str, int]
    elapsed: float
    cpu: float
    waits: list[float] = field(repr=False)
    first_bytes: list[float] = field(repr=False)
    sizes: list[int] = field(repr=False)

    @property
    def answered(self) -> int:
        """Return how many answers came."""
        return len(self.waits)

    @property
    def per_second(self) -> float:
        """Return how many answers came in a second."""
        return self.answered / self.elapsed

    @property
    def p50(self) -> float:
        """Return the median wait."""
        return median(self.waits)

    @property
    def p99(self) -> float:
        """Return the wait that one of a hundred exceeds."""
        return percentile(self.waits, 99)

    def require(self, *statuses: int) -> None:
        """Refuse to time anything but the expected answers."""
        if not set(self.statuses) <= {str(status) for status in statuses}:
            sys.exit(f"expected {statuses}, the service answered {self.statuses}")


def percentile(values: list[float], percent: float) -> float:
    """Return the least value that so many percent of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def start(order: Order) -> subprocess.Popen[str]:
    """Begin to send; `finish` waits for the result."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.driver"],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(asdict(order)))
    process.stdin.close()
    return process


def finish(process: subprocess.Popen[str]) -> Result:
    """Wait for what `start` began."""
    assert process.stdout is not None
    with process:
        return Result(**json.loads(process.stdout.read()))


def run(order: Order) -> Result:
    """Send, and wait for the result."""
    return finish(start(order))


def _carry_out(order: Order) -> Result:
    before, after = (part.encode() for part in order.request.split(NUMBER, 1))
    first = order.first
    load = Load(order.socket, lambda n: b"%b%08d%b" % (before, first + n, after), order.clients)
    begun = time.monotonic()
    load.run(_schedule(order, begun), order.seconds)
    return _result(load.answers, time.monotonic() - begun)


def _schedule(order: Order, begun: float) -> Iterator[float]:
    if order.rate is None:
        return repeat(0.0) if order.count is None else repeat(0.0, order.count)
    count = order.count or round(order.rate * (order.seconds or 0))
    interval = 1 / order.rate
    return (begun + number * interval for number in range(count))


def _result(answers: list[CachedResponse], elapsed: float) -> Result:
    return Result(
        statuses={str(status): n for status, n in Counter(a.status for a in answers).items()},
        elapsed=elapsed,
        cpu=time.process_time(),
        waits=[answer.done - answer.due for answer in answers],
        first_bytes=[answer.first - answer.due for answer in answers],
        sizes=[answer.size for answer in answers],
    )


if __name__ == "__main__":
    print(json.dumps(asdict(_carry_out(Order(**json.load(sys.stdin))))))
