"""What the query string of a list means, after behaviour.md."""

import re
from typing import NamedTuple
from urllib.parse import parse_qsl

from tests.properties.body_rules import MAX_INTEGER, NAME, STATES, Invalid

_BOOLEANS = {"true": True, "1": True, "": True, "false": False, "0": False}
_KNOWN = {
    *("state", "cluster", "start-time", "page", "items-per-page", "with-metadata"),
    "cursor",
}


class Query(NamedTuple):
    """Which runs a list has, and which page of them."""

    states: tuple[str, ...]
    cluster: str | None
    start_from: int
    start_to: int
    page: int
    items: int
    with_metadata: bool


def parse_query(query: str) -> Query:
    """Read a query string; raises Invalid."""
    pairs = parse_qsl(query, keep_blank_values=True)
    values = dict(pairs)
    for name in values:
        if name not in _KNOWN:
            raise Invalid(name)
    states = tuple(value for name, value in pairs if name == "state")
    cluster = values.get("cluster")
    metadata = values.get("with-metadata", "false").lower()
    _require("state", set(states) <= set(STATES))
    _require("cluster", cluster is None or NAME.fullmatch(cluster))
    _require("with-metadata", metadata in _BOOLEANS)
    start_from, start_to = _range(values.get("start-time", f"0-{MAX_INTEGER}"))
    # Only the service knows which cursors exist; the empty one is the beginning.
    _require("cursor", values.get("cursor", "") == "")
    _require("page", not {"page", "cursor"} <= values.keys())
    page = _positive("page", values.get("page", "1"))
    items = _positive("items-per-page", values.get("items-per-page", "25"))
    return Query(states, cluster, start_from, start_to, page, items, _BOOLEANS[metadata])


def _require(name: str, condition: object) -> None:
    if not condition:
        raise Invalid(name)


def _range(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]*)-([0-9]*)", text) if text != "-" else None
    start_from, start_to = (int(match[1] or 0), int(match[2] or MAX_INTEGER)) if match else (1, 0)
    _require("start-time", start_from <= start_to <= MAX_INTEGER)
    return start_from, start_to


def _positive(name: str, text: str) -> int:
    _require(name, re.fullmatch(r"[0-9]+", text) and 1 <= int(text) <= MAX_INTEGER)
    return int(text)
