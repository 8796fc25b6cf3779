"""Format the log: JSON for machines, text for terminals, never a secret."""

import json
import logging
import os
import re
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import orjson

# The id of the current request, which its client and the proxy know, too.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
_MASK = "********"
# Our tokens, JWTs, the credentials in an Authorization header, passwords in URLs.
_SECRET = re.compile(
    r"ccapi_[\w-]{8,}|\beyJ[\w-]+\.[\w-]*\.?[\w-]*"
    r"|(?P<prefix>\b(?:bearer|basic)\s+|://[^\s:@/\"]*:(?=[^\s\"]*@)|\b\w*password\s*=\s*)"
    r"[^\s@\"',;]+",
    re.IGNORECASE,
)
# What changes how a terminal shows the text around it, or cannot be written at all.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_INFO_PRIORITY = 6
_PRIORITIES = {
    logging.DEBUG: 7, logging.INFO: _INFO_PRIORITY, logging.WARNING: 4, logging.ERROR: 3,
    logging.CRITICAL: 2,
}  # fmt: skip
# Every match of the pattern has one of these, and looking for them costs a tenth of it.
_HINTS = ("ccapi_", "eyJ", "earer", "EARER", "asic", "ASIC", "://", "assword", "ASSWORD")


def configure(level: str, style: str) -> None:
    """Log to standard error from `level` on; `style` is json, text or auto.

    With auto, terminals get text and everything else gets JSON. It also formats gunicorn's
    messages in this process. systemd's journal gets the priority of each line.
    """
    as_json = style == "json" or (style == "auto" and not sys.stderr.isatty())
    formatter: logging.Formatter = JsonFormatter() if as_json else TextFormatter()
    if _is_journal():
        formatter = JournalFormatter(formatter)
    logging.basicConfig()
    for name in ("", "gunicorn.error"):
        for handler in logging.getLogger(name).handlers:
            if type(handler) is logging.StreamHandler:
                handler.setFormatter(formatter)
    logging.getLogger("ccapi").setLevel(level)
    # No line shows these, and finding them out costs time; logging's HOWTO recommends this.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None


def _is_journal() -> bool:
    """Return whether standard error goes to systemd's journal."""
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def masked(text: str) -> str:
    """Return a text with asterisks for everything that looks like a secret."""
    if any(hint in text for hint in _HINTS):
        return _SECRET.sub(lambda match: (match["prefix"] or "") + _MASK, text)
    return text


def printable(text: str) -> str:
    """Return a text with escapes for control characters, line breaks included."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, and the fields of the record."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; its attribute `fields`, a mapping, becomes keys of the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": masked(record.getMessage()),
        }
        if (id_ := request_id.get()) is not None:
            line["request_id"] = id_
        line.update(getattr(record, "fields", ()))
        if record.exc_info:
            line["traceback"] = masked(self.formatException(record.exc_info))
        try:
            return orjson.dumps(line, default=str).decode()
        except TypeError:  # a file name may not be Unicode
            return json.dumps(line, default=str)


class JournalFormatter(logging.Formatter):
    """A line of another formatter after its priority, which `journalctl --priority` selects by."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self._formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; each of its lines has the priority."""
        priority = _PRIORITIES.get(record.levelno, _INFO_PRIORITY)
        lines = self._formatter.format(record).split("\n")
        return "\n".join(f"<{priority}>{line}" for line in lines)


class TextFormatter(logging.Formatter):
    """A line for people; a traceback follows on its own lines."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Append a record's fields to its message, as key=value."""
        fields = dict(getattr(record, "fields", ()))
        if (id_ := request_id.get()) is not None:
            fields["request_id"] = id_
        pairs = (f"{name}={value}" for name, value in fields.items())
        return printable(" ".join([super().formatMessage(record), *pairs]))

    def format(self, record: logging.LogRecord) -> str:
        """Format a record without secrets."""
        return masked(super().format(record))
