"""What was measured against what was wanted: as a table to read, as JSON to compare."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

_WIDTHS = (56, 12, 12, 9)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A measured figure and its bar, an upper one unless `at_least`; None is no bar."""

    what: str
    measured: float
    bar: float | None
    unit: str = "times"
    at_least: bool = False
    details: str = ""

    @property
    def holds(self) -> bool:
        """Tell whether the figure keeps to its bar."""
        if self.bar is None:
            return True
        return self.measured >= self.bar if self.at_least else self.measured <= self.bar

    @property
    def verdict(self) -> str:
        """Say it in a word."""
        return "" if self.bar is None else "held" if self.holds else "NOT HELD"

    @property
    def wanted(self) -> str:
        """Write the bar."""
        if self.bar is None:
            return ""
        return f"{'>=' if self.at_least else '<='} {self.bar:,.6g}"


def spread(values: Sequence[float], factor: float = 1, digits: int = 0) -> str:
    """Write least, median and most of several rounds."""
    ordered = sorted(value * factor for value in values)
    middle = ordered[len(ordered) // 2]
    return f"{ordered[0]:.{digits}f} / {middle:.{digits}f} / {ordered[-1]:.{digits}f}"


def lines(row: Row) -> str:
    """Write a row, and below it how it came about."""
    cells = (row.what, f"{row.measured:,.4g} {row.unit}", row.wanted, row.verdict)
    written = "  ".join(cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True))
    return written.rstrip() + (f"\n    {row.details}" if row.details else "")


def save(path: Path, machine: str, rows: Sequence[Row]) -> None:
    """Keep the rows for a later comparison."""
    kept = {"machine": machine, "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")


def compared(former: Path, latter: Path) -> str:
    """Set two saved runs side by side."""
    before, after = (_rows(path) for path in (former, latter))
    found = [
        f"{what.ljust(_WIDTHS[0])}  {before[what].measured:>10,.4g}  {row.measured:>10,.4g}  "
        f"{row.measured / before[what].measured if before[what].measured else 0:>6.2f}  {row.unit}"
        for what, row in after.items()
        if what in before
    ]
    head = f"{'what'.ljust(_WIDTHS[0])}  {'before':>10}  {'after':>10}  {'ratio':>6}"
    return "\n".join([head, *found])


def _rows(path: Path) -> dict[str, Row]:
    rows = (Row(**row) for row in json.loads(path.read_text("utf-8"))["rows"])
    return {row.what: row for row in rows}
