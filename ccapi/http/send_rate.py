"""Cut off the answers of clients that read too slowly, because they occupy a worker.

gunicorn sends each part of an answer by one call, which may last as long as the socket's timeout
in all, however the client trickles.
"""

import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ccapi import metrics

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_log = logging.getLogger(__name__)
# What sockets buffer need not be timed.
MIN_BYTES = 65_536
_MIN_TIMEOUT_SECONDS = 5


def timed(body: Iterable[bytes], environ: "WSGIEnvironment", min_rate: float) -> Iterator[bytes]:
    """Yield the parts of a stream, each with its timeout."""
    for part in body:
        set_timeout(environ, len(part), min_rate)
        yield part


def set_timeout(environ: "WSGIEnvironment", size: int, min_rate: float) -> None:
    """Limit the time in which the client reads the next `size` bytes; `min_rate` is a second's."""
    connection = environ.get("gunicorn.socket")
    if connection is not None:
        connection.settimeout(max(_MIN_TIMEOUT_SECONDS, size / min_rate))


def replace_traceback(record: logging.LogRecord) -> bool:
    """Log a line, and count, instead of gunicorn's traceback of a timeout; a filter of its log."""
    if not record.exc_info or not isinstance(record.exc_info[1], TimeoutError):
        return True
    metrics.CUT_OFF_RESPONSES.inc()
    _log.warning("an answer was cut off, because its client read too slowly")
    return False
