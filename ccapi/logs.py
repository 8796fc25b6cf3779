"""What a line of the log looks like: JSON for a machine, text for a terminal, never a secret."""

import json
import logging
import re
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import orjson

# Under which id the request at hand is known to its client and to the proxy.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
_MASK = "********"
# Our tokens, JWTs, what follows the words of an Authorization header, a URL's password.
_SECRET = re.compile(
    r"ccapi_[\w-]{8,}|\beyJ[\w-]+\.[\w-]*\.?[\w-]*"
    r"|(?P<kept>\b(?:bearer|basic)\s+|://[^\s:@/\"]*:|\b\w*password\s*=\s*)[^\s@\"',;]+",
    re.IGNORECASE,
)
# Without one of these no pattern above matches; looking for them costs a tenth.
_MARKS = ("ccapi_", "eyJ", "earer", "EARER", "asic", "ASIC", "://", "assword", "ASSWORD")


def configure(level: str, style: str) -> None:
    """Log to standard error from `level` on; `style` is json, text or auto.

    With auto a terminal gets text, everything else JSON. gunicorn's own messages in this
    process take the same shape.
    """
    as_json = style == "json" or (style == "auto" and not sys.stderr.isatty())
    formatter = JsonFormatter() if as_json else TextFormatter()
    logging.basicConfig()
    for name in ("", "gunicorn.error"):
        for handler in logging.getLogger(name).handlers:
            if type(handler) is logging.StreamHandler:
                handler.setFormatter(formatter)
    logging.getLogger("ccapi").setLevel(level)
    # What no line shows need not be found out for each, as the module's HOWTO says.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None


def masked(text: str) -> str:
    """Return a text with what looks like a secret as asterisks."""
    if any(mark in text for mark in _MARKS):
        return _SECRET.sub(lambda found: (found["kept"] or "") + _MASK, text)
    return text


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and what the message is about."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record; its `facts`, a mapping, become keys of the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": masked(record.getMessage()),
        }
        if (name := request_id.get()) is not None:
            line["request_id"] = name
        line.update(getattr(record, "facts", ()))
        if record.exc_info:
            line["traceback"] = masked(self.formatException(record.exc_info))
        try:
            return orjson.dumps(line, default=str).decode()
        except TypeError:  # a file name may be no Unicode
            return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """A line to read; a traceback follows on lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Write a record's facts behind its message, as key=value."""
        facts = dict(getattr(record, "facts", ()))
        if (name := request_id.get()) is not None:
            facts["request_id"] = name
        return " ".join([super().formatMessage(record), *(f"{k}={v}" for k, v in facts.items())])

    def format(self, record: logging.LogRecord) -> str:
        """Write a record without secrets."""
        return masked(super().format(record))
