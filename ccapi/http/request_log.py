"""Each request gets an id, a line in the log, and a place in the metrics."""

import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from werkzeug.wsgi import ClosingIterator

from ccapi import logs, metrics
from ccapi.db.budgets import on_return
from ccapi.http import send_rate
from ccapi.model.token import ValidToken

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_log = logging.getLogger("ccapi.request")
_REQUEST_ID = re.compile(r"[0-9A-Za-z-]{8,64}")
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
# Machines ask for these every few seconds: their lines appear with log level DEBUG only.
_DEBUG_ENDPOINTS = {"healthz", "readyz", "metrics", "static"}
_NOT_MODIFIED = 304
# For browsers: an answer is not a page, unless it says otherwise.
_SECURITY_HEADERS = (
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("X-Content-Type-Options", "nosniff"),
)
_DEBUG_STATUSES = {401, 429}
_MAX_IGNORED_FIELDS, _MAX_FIELD_LENGTH = 20, 64
# What a worker remembers of ignored fields, so that a hostile client cannot fill its memory.
_MAX_LOGGED_FIELDS = 1_000
_logged_fields: set[tuple[str, str, str]] = set()
_SAFE = "!$&'()*+-./:;<=>?@[]^_`{|}~"


@dataclass
class RequestInfo:
    """What the log and the metrics report of a request; filled in as it becomes known."""

    request_id: str
    environ: "WSGIEnvironment"
    token: ValidToken | None = None
    job: int | None = None
    refusal: str | None = None
    # Unknown keys of the body; a dictionary, because it keeps their order.
    ignored_fields: dict[str, None] = field(default_factory=dict)

    @cached_property
    def endpoint(self) -> str:
        """Return the operation's name; all unknown addresses share one.

        Cached because Flask forgets it before a stream ends.
        """
        request = self.environ.get("werkzeug.request")
        endpoint = request.endpoint if request is not None else None
        return endpoint.rpartition(".")[2] if endpoint else "unknown"

    def log_fields(self, status: int) -> dict[str, Any]:
        """Return what is known when the response begins."""
        method = self.environ["REQUEST_METHOD"]
        fields: dict[str, Any] = {
            "method": method if method in _METHODS else "other",
            "endpoint": self.endpoint,
            "status": status,
        }
        if self.token is not None:
            fields["token"] = self.token.name
        if self.job is not None:
            fields["job"] = self.job
        if self.refusal is not None:
            fields["refusal"] = self.refusal
        return fields


_current: ContextVar[RequestInfo] = ContextVar("request_info")
# Return the RequestInfo of the current request.
current = _current.get


def record_refusal(error: Exception) -> None:
    """Log and count why the current request is refused."""
    info = current()
    info.refusal = type(error).__name__
    metrics.child(metrics.REJECTED_REQUESTS, info.refusal).inc()
    if (id_ := getattr(error, "id", None)) is not None:
        info.job = id_


class RequestLogMiddleware:
    """WSGI middleware that logs and counts every request of an application.

    It does so when the response begins or, if its length is unknown, when its stream ends. It also
    has clients cut off that read less than `min_send_rate` bytes a second.
    """

    def __init__(self, application: "WSGIApplication", min_send_rate: float) -> None:
        self._application = application
        self._min_send_rate = min_send_rate
        logging.getLogger("gunicorn.error").addFilter(send_rate.replace_traceback)

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer a request."""
        started = time.perf_counter()
        proxy_id = environ.get("HTTP_X_REQUEST_ID", "")
        request_id = proxy_id if _REQUEST_ID.fullmatch(proxy_id) else secrets.token_hex(16)
        info = RequestInfo(request_id, environ)
        _current.set(info)
        logs.request_id.set(request_id)
        on_return.set(None)  # The token of the request before is not charged for this one.
        at_end: list[Callable[[], None]] = []

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            fields = info.log_fields(int(status[:3]))
            named = dict(headers)
            length = named.get("Content-Length")
            if fields["status"] == _NOT_MODIFIED or length is not None:
                _record(fields, started)
                if length is not None and (size := int(length)) > send_rate.MIN_BYTES:
                    send_rate.set_timeout(environ, size, self._min_send_rate)
            else:
                at_end.append(partial(_record, fields, started))
            headers = [*headers, ("X-Request-Id", request_id)]
            if "Content-Security-Policy" not in named:
                headers += _SECURITY_HEADERS
            if info.ignored_fields:
                headers.append(("Ccapi-Ignored-Fields", _report_ignored_fields(info)))
            return start_response(status, headers, exc_info)

        body = self._application(environ, start)
        if not at_end:
            return body
        stream = send_rate.timed(body, environ, self._min_send_rate)
        close = getattr(body, "close", None)
        return ClosingIterator(stream, [close, *at_end] if close else at_end)


def _report_ignored_fields(info: RequestInfo) -> str:
    """Count and log the unknown keys of a body, and return them for a header.

    The log reports each client, endpoint and key once.
    """
    names = list(info.ignored_fields)[:_MAX_IGNORED_FIELDS]
    metrics.child(metrics.IGNORED_FIELDS, info.endpoint).inc(len(info.ignored_fields))
    client = info.token.name if info.token is not None else ""
    new = [name for name in names if (client, info.endpoint, name) not in _logged_fields]
    if new and len(_logged_fields) < _MAX_LOGGED_FIELDS:
        _logged_fields.update((client, info.endpoint, name) for name in new)
        _log.warning("%s of %s: ignored unknown fields: %s", info.endpoint, client, _quote(new))
    return _quote(names)


def _quote(names: Iterable[str]) -> str:
    """Return names as a list for a header: percent-encoded beyond printable ASCII, and cut."""
    return ", ".join(quote(name[:_MAX_FIELD_LENGTH], safe=_SAFE) for name in names)


def _record(fields: Mapping[str, Any], started: float) -> None:
    """Log and count a request that started at a time of time.perf_counter()."""
    seconds = time.perf_counter() - started
    endpoint, status = fields["endpoint"], fields["status"]
    metrics.child(metrics.REQUESTS, endpoint, status).inc()
    metrics.child(metrics.REQUEST_SECONDS, endpoint).observe(seconds)
    # Anybody can cause a 401 or a 429, as often as he likes; the metrics count them.
    is_debug = status in _DEBUG_STATUSES or (endpoint in _DEBUG_ENDPOINTS and status < 400)
    level = logging.DEBUG if is_debug else logging.INFO
    if _log.isEnabledFor(level):
        fields = {**fields, "seconds": round(seconds, 6)}
        _log.log(level, f"{endpoint} {status}", extra={"fields": fields})
    logs.request_id.set(None)  # Later lines belong to no request.
