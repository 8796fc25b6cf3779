"""How much is in use at a time: a node, core or GPU counts once, however many jobs share it."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

from ccapi.model.job import Range
from ccapi.model.statistics import Points

# The end of a running job.
NEVER = 2**63
# A unit with a smaller number is the bit of that number; clients may send any other name.
_MAX_PLAIN_BITS = 4096


class Run(NamedTuple):
    """When a job ran, in epoch seconds; a running one ends NEVER."""

    begin: int
    end: int


class Usage:
    """The use of units by jobs, which are added in the order of their starts.

    It remembers until when each unit is busy: a job that begins before then adds only the rest.
    So its memory grows with the hosts, not with the jobs.
    """

    def __init__(self, time: Range, points: Points, now: int) -> None:
        self.seconds = 0
        self._time, self._points, self._now = time, points, now
        self._delta: Counter[int] = Counter()
        self._busy: dict[Hashable, dict[int, int]] = {}
        self._used: dict[Hashable, int] = {}
        self._bits: dict[Hashable, dict[Hashable, int]] = {}

    def add(self, host: Hashable, units: int, run: Run) -> None:
        """Add a job's use of a host; `units` has a bit for each unit."""
        self._used[host] = self._used.get(host, 0) | units
        begin, end = max(run.begin, self._time.lower), run.end
        busy = self._busy.setdefault(host, {})
        idle = units
        for until, mask in list(busy.items()):
            shared = mask & units
            if until <= begin:
                del busy[until]
            elif shared:
                idle &= ~shared
                if until < end:
                    self._count(shared.bit_count(), until, end)
                    busy[until] &= ~shared
                    busy[end] = busy.get(end, 0) | shared
        if idle and begin < end:
            self._count(idle.bit_count(), begin, end)
            busy[end] = busy.get(end, 0) | idle

    def _count(self, number: int, begin: int, end: int) -> None:
        last = min(self._now if end == NEVER else end, self._time.upper)
        self.seconds += number * max(0, last - min(begin, last))
        self._delta[self._point(begin)] += number
        self._delta[self._point(end)] -= number

    def _point(self, time: int) -> int:
        """Return the number of the first point that is not before a time."""
        first, step, number = self._points
        return min(max(0, -((first - time) // step)), number)

    def mask(self, host: Hashable, units: Iterable[Hashable]) -> int:
        """Return the bits of a host's units, which are either numbers or names."""
        mask = 0
        bits = self._bits.setdefault(host, {})
        for unit in units:
            if type(unit) is not int:
                bit = bits.setdefault(unit, len(bits))
            elif unit < _MAX_PLAIN_BITS:
                bit = unit
            else:
                bit = bits.setdefault(unit, _MAX_PLAIN_BITS + len(bits))
            mask |= 1 << bit
        return mask

    @property
    def num_units(self) -> int:
        """Return how many units were used at all."""
        return sum(mask.bit_count() for mask in self._used.values())

    @property
    def timeline(self) -> list[int]:
        """Return how many units are in use at each point."""
        return list(accumulate(self._delta[number] for number in range(self._points.number)))


class DistinctUsage:
    """The use of nodes, cores and GPUs by jobs, which are added in the order of their starts."""

    def __init__(self, time: Range, points: Points, now: int) -> None:
        self.nodes, self.cores, self.gpus = (Usage(time, points, now) for _ in range(3))

    def add(self, cluster: str, resources: Iterable[Mapping[str, Any]], run: Run) -> None:
        """Add a job; its resources are as the database has them, with ranges of threads."""
        for group in resources:
            hosts = group["hostname"]
            threads, accelerators = group.get("hwthreads"), group.get("accelerators")
            for name in [hosts] if type(hosts) is str else hosts:
                host = cluster, name
                self.nodes.add(host, 1, run)
                if threads:
                    plain, others = _split(threads) if type(threads) is str else (0, threads)
                    self.cores.add(host, plain | self.cores.mask(host, others), run)
                if accelerators:
                    self.gpus.add(host, self.gpus.mask(host, accelerators), run)

    @property
    def timeline(self) -> list[tuple[int, int, int]]:
        """Return how many nodes, cores and GPUs are in use at each point."""
        every = (self.nodes.timeline, self.cores.timeline, self.gpus.timeline)
        return list(zip(*every, strict=True))


@lru_cache(maxsize=1000)
def _split(ranges: str) -> tuple[int, tuple[int, ...]]:
    """Return the bits of the plain numbers in ranges such as "0-35,72-107", and the others."""
    mask: int = 0
    others: list[int] = []
    for part in ranges.split(","):
        first, last = map(int, part.split("-"))
        end = min(last + 1, _MAX_PLAIN_BITS)
        if first < end:
            mask |= (1 << end) - (1 << first)
        others += range(max(first, _MAX_PLAIN_BITS), last + 1)
    return mask, tuple(others)
