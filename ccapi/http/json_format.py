"""JSON answers; each ends with a newline, so that a terminal's prompt gets a line of its own."""

from functools import partial

import orjson

CONTENT_TYPE = "application/json"
dumps = partial(orjson.dumps, option=orjson.OPT_APPEND_NEWLINE)
