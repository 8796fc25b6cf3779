"""The hosts that a resized job had before, in its metadata.

The text of `nodeHistory` is JSON: [{"until": EPOCH_SECOND, "hosts": [NAME, ...]}, ...].
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from ccapi.model import rules

KEY = "nodeHistory"
# Jobs rarely change more often; a script that never stops must not fill the metadata.
_MAX_ENTRIES, _MAX_LENGTH = 100, 2**20


def load(meta_data: Mapping[str, str], max_time: int) -> list[dict[str, Any]]:
    """Return the former hosts of a job until a time, oldest first; any other text is ignored."""
    try:
        entries = orjson.loads(meta_data.get(KEY, "[]"))
    except ValueError:
        return []
    is_history = type(entries) is list and all(_is_entry(entry, max_time) for entry in entries)
    return entries if is_history else []


def _is_entry(entry: object, max_time: int) -> bool:
    match entry:
        case {"until": int(until), "hosts": list(hosts), **others} if not others:
            return until <= max_time and all(type(host) is str for host in hosts)
    return False


def add(
    meta_data: Mapping[str, str],
    entries: Sequence[dict[str, Any]],
    until: int,
    hosts: Sequence[str],
) -> dict[str, str]:
    """Return metadata with a history that ends with these hosts; the oldest may be left out."""
    others = {key: value for key, value in meta_data.items() if key != KEY}
    max_length = min(_MAX_LENGTH, rules.MAX_META_DATA_LENGTH - sum(map(len, others.values())))
    last = [*entries, {"until": until, "hosts": list(hosts)}][-_MAX_ENTRIES:]
    while last and len(text := orjson.dumps(last).decode()) > max_length:
        del last[0]
    return {**others, KEY: text} if last else others
