"""Each request gets a name, a line in the log and a place in the metrics."""

import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from werkzeug.wsgi import ClosingIterator

from ccapi import logs, metrics
from ccapi.model.token import ValidToken

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_log = logging.getLogger("ccapi.request")
_WELL_FORMED = re.compile(r"[0-9A-Za-z-]{8,64}")
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
# Asked by machines every few seconds: to be seen when it is looked for.
_SELDOM_LOGGED = {"healthz", "readyz", "metrics", "static"}
# Second methods of an operation have a route of their own.
_TWINS = re.compile("_(put|patch)$")
_NOT_MODIFIED = 304


@dataclass
class RequestInfo:
    """What the log and the metrics tell of a request; it is filled in as it becomes known."""

    request_id: str
    environ: "WSGIEnvironment"
    token: ValidToken | None = None
    job: int | None = None
    refusal: str | None = None

    @cached_property
    def endpoint(self) -> str:
        """Name the operation that is asked for; all unknown addresses are one.

        Flask forgets it when the answer, or its stream, has begun.
        """
        request = self.environ.get("werkzeug.request")
        found = request.endpoint if request is not None else None
        return _TWINS.sub("", found.rpartition(".")[2]) if found else "unknown"

    def facts(self, status: int) -> dict[str, Any]:
        """Return what is known, now that an answer begins."""
        method = self.environ["REQUEST_METHOD"]
        facts: dict[str, Any] = {
            "method": method if method in _METHODS else "other",
            "endpoint": self.endpoint,
            "status": status,
        }
        if self.token is not None:
            facts["token"] = self.token.name
        if self.job is not None:
            facts["job"] = self.job
        if self.refusal is not None:
            facts["refusal"] = self.refusal
        return facts


_current: ContextVar[RequestInfo] = ContextVar("account")
current = _current.get


def refused(error: Exception) -> None:
    """Note why the current request is refused."""
    account = current()
    account.refusal = type(error).__name__
    metrics.child(metrics.REJECTED_REQUESTS, account.refusal).inc()
    if (id_ := getattr(error, "id", None)) is not None:
        account.job = id_


class RequestLogMiddleware:
    """A WSGI application around another, which accounts for every request of it.

    It does so as soon as the answer's length is known, or when its stream has ended.
    """

    def __init__(self, application: "WSGIApplication") -> None:
        self._application = application

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer a request."""
        begun = time.perf_counter()
        account = RequestInfo(_name(environ.get("HTTP_X_REQUEST_ID", "")), environ)
        _current.set(account)
        logs.request_id.set(account.request_id)
        at_end: list[Callable[[], None]] = []

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            facts = account.facts(int(status[:3]))
            if facts["status"] == _NOT_MODIFIED or "Content-Length" in dict(headers):
                _record(facts, begun)
            else:
                at_end.append(partial(_record, facts, begun))
            named = [*headers, ("X-Request-Id", account.request_id)]
            return start_response(status, named, exc_info)

        body = self._application(environ, start)
        return ClosingIterator(body, at_end) if at_end else body


def _name(given: str) -> str:
    """Take over the proxy's name for a request, if it is one, or make one."""
    return given if _WELL_FORMED.fullmatch(given) else secrets.token_hex(16)


def _record(facts: Mapping[str, Any], begun: float) -> None:
    """Log and count a request that began at a time of time.perf_counter().

    Later lines of the log are of no request.
    """
    seconds = time.perf_counter() - begun
    endpoint, status = facts["endpoint"], facts["status"]
    metrics.child(metrics.REQUESTS, endpoint, status).inc()
    metrics.child(metrics.REQUEST_SECONDS, endpoint).observe(seconds)
    level = logging.DEBUG if endpoint in _SELDOM_LOGGED and status < 400 else logging.INFO
    if _log.isEnabledFor(level):
        told = {**facts, "seconds": round(seconds, 6)}
        _log.log(level, f"{endpoint} {status}", extra={"facts": told})
    logs.request_id.set(None)
