"""The geometry of charts, which templates draw as SVG."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import NamedTuple

from ccapi.model.statistics import Bin

_WIDTH, _HEIGHT = 720, 120
# Rows of the table that says the same as a chart.
_MAX_ROWS = 12


class Peak(NamedTuple):
    """The largest value from a time on, in epoch seconds, until the next peak's time."""

    time: int
    value: float


@dataclass(frozen=True)
class Steps:
    """Values over time that change in steps: outlines in a box of `width` by `height`.

    `ticks` are the values at the top, in the middle and at the bottom. `peaks` are for those who
    cannot see the chart.
    """

    line: str
    area: str
    ticks: tuple[float, float, float]
    max_value: float
    last_value: float
    peaks: list[Peak]
    width: int = _WIDTH
    height: int = _HEIGHT


def steps(times: Sequence[int], values: Sequence[float]) -> Steps:
    """Return the outline of values at times of equal distances."""
    max_value = max(values, default=0)
    top = nice_ceiling(max_value)
    ticks = (top, top // 2, 0)
    if not values:
        return Steps("", "", ticks, 0, 0, [])
    step = _WIDTH / len(values)
    parts: list[str] = []
    for number, value in enumerate(values):
        y = round(_HEIGHT * (1 - value / top), 1)
        parts.append(f"{'V' if parts else 'M0 '}{y}H{round((number + 1) * step, 1)}")
    line = "".join(parts)
    size = ceil(len(values) / _MAX_ROWS)
    starts = range(0, len(values), size)
    peaks = [Peak(times[start], max(values[start : start + size])) for start in starts]
    return Steps(line, f"{line}V{_HEIGHT}H0Z", ticks, max_value, values[-1], peaks)


class Bar(NamedTuple):
    """A bar of a histogram: the values that it counts, and its length in percent."""

    lower: int
    upper: int
    number: int
    length: int


def bars(bins: Sequence[Bin]) -> list[Bar]:
    """Return the bars of a histogram; the longest one has 100 percent."""
    top = max((one.num_jobs for one in bins), default=0) or 1
    return [Bar(*one, ceil(100 * one.num_jobs / top)) for one in bins]


def nice_ceiling(value: float) -> int:
    """Return an even number of at least `value` that a person would choose."""
    if value <= 2:
        return 2
    base = 10 ** floor(log10(value))
    return next(int(factor * base) for factor in (1, 2, 4, 6, 8, 10) if factor * base >= value)
