"""The rows of a run: printed as a table, saved as JSON, compared with another run."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

_WIDTHS = (56, 19, 9, 6)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A figure and its bar, or None; the bar is a maximum unless `at_least` is true."""

    what: str
    measured: float
    bar: float | None
    unit: str = "times"
    at_least: bool = False
    details: str = ""

    @property
    def meets_bar(self) -> bool:
        """Return whether the figure meets its bar, if it has one."""
        if self.bar is None:
            return True
        return self.measured >= self.bar if self.at_least else self.measured <= self.bar


def spread(values: Sequence[float], factor: float = 1, digits: int = 0) -> str:
    """Format minimum, median and maximum of several rounds, each multiplied by a factor."""
    ordered = sorted(value * factor for value in values)
    middle = ordered[len(ordered) // 2]
    return f"{ordered[0]:.{digits}f} / {middle:.{digits}f} / {ordered[-1]:.{digits}f}"


def format_row(row: Row) -> str:
    """Format a row as a line of the table, with its details in a second line."""
    bar = verdict = ""
    if row.bar is not None:
        bar = f"{'>=' if row.at_least else '<='} {row.bar:,.6g}"
        verdict = "ok" if row.meets_bar else "MISSED"
    cells = (row.what, f"{row.measured:,.4g} {row.unit}", bar, verdict)
    line = "  ".join(cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True))
    return line.rstrip() + (f"\n    {row.details}" if row.details else "")


def save(path: Path, machine: str, rows: Sequence[Row]) -> None:
    """Save the rows as JSON, for `compare`."""
    document = {"machine": machine, "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def compare(before_path: Path, after_path: Path) -> str:
    """Format the rows that two saved runs have in common, side by side."""
    before, after = _load(before_path), _load(after_path)
    lines = [f"{'what'.ljust(_WIDTHS[0])}  {'before':>10}  {'after':>10}  {'ratio':>6}"]
    for what, row in after.items():
        if what in before:
            former = before[what].measured
            ratio = row.measured / former if former else 0
            lines.append(
                f"{what.ljust(_WIDTHS[0])}  {former:>10,.4g}  {row.measured:>10,.4g}  "
                f"{ratio:>6.2f}  {row.unit}"
            )
    return "\n".join(lines)


def _load(path: Path) -> dict[str, Row]:
    rows = (Row(**row) for row in json.loads(path.read_text("utf-8"))["rows"])
    return {row.what: row for row in rows}
