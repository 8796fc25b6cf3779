"""What the query string of a list means, after behaviour.md."""

import re
from typing import NamedTuple
from urllib.parse import parse_qsl

from tests.properties.rules import LARGEST, NAME, STATES, Wrong

_BOOLEANS = {"true": True, "1": True, "": True, "false": False, "0": False}
_KNOWN = {
    *("state", "cluster", "start-time", "page", "items-per-page", "with-metadata"),
    "cursor",
}


class Query(NamedTuple):
    """Which page of which runs is asked for."""

    states: tuple[str, ...]
    cluster: str | None
    start_from: int
    start_to: int
    page: int
    items: int
    with_metadata: bool


def parse_query(query: str) -> Query:
    """Read a query string; raises Wrong."""
    pairs = parse_qsl(query, keep_blank_values=True)
    given = dict(pairs)
    for name in given:
        if name not in _KNOWN:
            raise Wrong(name)
    states = tuple(value for name, value in pairs if name == "state")
    cluster = given.get("cluster")
    metadata = given.get("with-metadata", "false").lower()
    _require("state", set(states) <= set(STATES))
    _require("cluster", cluster is None or NAME.fullmatch(cluster))
    _require("with-metadata", metadata in _BOOLEANS)
    start_from, start_to = _range(given.get("start-time", f"0-{LARGEST}"))
    # What a real cursor is only the service knows; the empty one is the beginning.
    _require("cursor", given.get("cursor", "") == "")
    _require("page", not {"page", "cursor"} <= given.keys())
    page = _at_least_1("page", given.get("page", "1"))
    items = _at_least_1("items-per-page", given.get("items-per-page", "25"))
    return Query(states, cluster, start_from, start_to, page, items, _BOOLEANS[metadata])


def _require(name: str, met: object) -> None:
    if not met:
        raise Wrong(name)


def _range(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]+)-([0-9]+)", text)
    start_from, start_to = map(int, found.groups()) if found else (1, 0)
    _require("start-time", start_from <= start_to <= LARGEST)
    return start_from, start_to


def _at_least_1(name: str, text: str) -> int:
    _require(name, re.fullmatch(r"[0-9]+", text) and 1 <= int(text) <= LARGEST)
    return int(text)
