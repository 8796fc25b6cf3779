"""JSON answers; each ends with a newline, so that a terminal's prompt gets a line of its own."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import orjson

CONTENT_TYPE = "application/json"
_LD_JSON = "application/ld+json"
dumps = partial(orjson.dumps, option=orjson.OPT_APPEND_NEWLINE)


def wants_ld_json(environ: Mapping[str, Any]) -> bool:
    """Return whether a client accepts application/ld+json, as those of cc-backend 1.5 do."""
    return _LD_JSON in environ.get("HTTP_ACCEPT", "").lower()
