"""CSV answers, as RFC 4180 defines them.

A list or an object is JSON in its cell. Text that a spreadsheet would run as a formula gets a
leading apostrophe: only an attacker has such a name.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

CONTENT_TYPE = "text/csv; charset=utf-8; header=present"
# Spreadsheets skip spaces before a formula, and some take the full-width forms, too.
_FORMULA_PREFIXES = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_LINE_PREFIXES = ("\t", "\r", "\n")


def header(names: Sequence[str]) -> bytes:
    """Return the first line, with the names of the columns."""
    return _lines([names])


def lines(names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return a line for each row; a cell without a value is empty."""
    return _lines([_cell(row.get(name, "")) for name in names] for row in rows)


def _lines(rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _cell(value: Any) -> str | int:
    match value:
        case str():
            is_formula = value.lstrip().startswith(_FORMULA_PREFIXES)
            return f"'{value}" if is_formula or value.startswith(_LINE_PREFIXES) else value
        case int():
            return value
        case _:
            return orjson.dumps(value).decode()
