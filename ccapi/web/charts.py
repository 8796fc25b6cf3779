"""The geometry of charts, which templates draw as SVG."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10


@dataclass(frozen=True)
class Steps:
    """A value over time that changes in steps: outlines in a box of `width` by `height`.

    `ticks` are values and their heights from above.
    """

    line: str
    area: str
    ticks: list[tuple[float, float]]
    width: int
    height: int
    max_value: float


def steps(values: Sequence[float], width: int = 720, height: int = 120) -> Steps:
    """Return the outline of values at equal distances."""
    top = nice_ceiling(max(values, default=0))
    if not values:
        return Steps("", "", [], width, height, 0)
    step = width / len(values)
    parts: list[str] = []
    for number, value in enumerate(values):
        y = round(height * (1 - value / top), 1)
        parts.append(f"{'V' if parts else 'M0 '}{y}H{round((number + 1) * step, 1)}")
    line = "".join(parts)
    ticks = [(top, 0.0), (top / 2, height / 2)]
    return Steps(line, f"{line}V{height}H0Z", ticks, width, height, max(values))


def nice_ceiling(value: float) -> float:
    """Return a round number of at least `value`, and of at least 1: 1, 2, 4 or 10 times 10^n."""
    if value <= 1:
        return 1
    base = 10.0 ** floor(log10(value))
    return next(factor * base for factor in (1, 2, 4, 6, 8, 10) if factor * base >= value)
