"""Jobs as comma-separated values, after RFC 4180.

What is a list or an object in JSON is JSON in its cell. Names that a spreadsheet would take
for a formula begin with an apostrophe here: only who means harm has such a name.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

CONTENT_TYPE = "text/csv; charset=utf-8; header=present"
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def head(names: Sequence[str]) -> bytes:
    """Write the first line, which names the columns."""
    return _written([names])


def lines(names: Sequence[str], jobs: Iterable[Mapping[str, Any]]) -> bytes:
    """Write a line for each job; what it has not is empty."""
    return _written([_cell(job.get(name, "")) for name in names] for job in jobs)


def _written(rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _cell(value: Any) -> str | int:
    match value:
        case str():
            return f"'{value}" if value.startswith(_FORMULA) else value
        case int():
            return value
        case _:
            return orjson.dumps(value).decode()
