"""Each request gets a name, a line in the log and a place in the metrics."""

import logging
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any

from flask import Flask, Response, g, request
from werkzeug.datastructures import Headers

from ccapi import logs, metrics

_log = logging.getLogger("ccapi.request")
_WELL_FORMED = re.compile(r"[0-9A-Za-z-]{8,64}")
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
# Asked by machines every few seconds: to be seen when it is looked for.
_SELDOM_LOGGED = {"healthz", "readyz", "metrics", "static"}
# Second methods of an operation have a route of their own.
_TWINS = re.compile("_(put|patch)$")


def follow(app: Flask) -> None:
    """Account for every request of an app."""
    app.before_request(_begin)
    app.after_request(_end)
    app.teardown_request(_forget)


def is_about(id_: int | None) -> None:
    """Note the database id of the job that the current request is about."""
    g.job = id_


def refused(error: Exception) -> None:
    """Note why the current request is refused."""
    g.refusal = type(error).__name__
    metrics.REFUSALS.labels(g.refusal).inc()
    if (id_ := getattr(error, "id", None)) is not None:
        g.job = id_


def endpoint() -> str:
    """Name the operation that is asked for; all unknown addresses are one."""
    found = request.endpoint
    return _TWINS.sub("", found.rpartition(".")[2]) if found else "unknown"


def asked() -> dict[str, Any]:
    """Return what the log and the metrics tell of the current question, whatever its answer."""
    facts = {"method": _method(), "endpoint": endpoint(), "job": g.get("job")}
    return {name: value for name, value in facts.items() if value is not None}


def begin(headers: Headers) -> str:
    """Take over the proxy's name for a request, if it is one, or make one; return it."""
    given = headers.get("X-Request-Id", "")
    name = given if _WELL_FORMED.fullmatch(given) else secrets.token_hex(16)
    logs.request_id.set(name)
    return name


def end() -> None:
    """Let later lines of the log be of no request."""
    logs.request_id.set(None)


def _begin() -> None:
    g.begun = time.perf_counter()
    g.request_id = begin(request.headers)


def _end(response: Response) -> Response:
    """Account for the request: now, or when its stream has ended."""
    response.headers["X-Request-Id"] = g.request_id
    g.is_streamed = response.is_streamed
    facts, begun = _facts(response.status_code), g.begun
    if response.is_streamed:
        response.call_on_close(lambda: record(facts, begun))
    else:
        record(facts, begun)
    return response


def _facts(status: int) -> dict[str, Any]:
    facts = {
        "method": _method(),
        "endpoint": endpoint(),
        "status": status,
        "token": g.get("token_name"),
        "job": g.get("job"),
        "refusal": g.get("refusal"),
    }
    return {name: value for name, value in facts.items() if value is not None}


def _method() -> str:
    return request.method if request.method in _METHODS else "other"


def record(facts: Mapping[str, Any], begun: float) -> None:
    """Log and count a request that began at a time of time.perf_counter()."""
    seconds = time.perf_counter() - begun
    metrics.REQUESTS.labels(facts["endpoint"], facts["status"]).inc()
    metrics.REQUEST_SECONDS.labels(facts["endpoint"]).observe(seconds)
    is_seldom = facts["endpoint"] in _SELDOM_LOGGED and facts["status"] < 400
    level = logging.DEBUG if is_seldom else logging.INFO
    if _log.isEnabledFor(level):
        message = f"{facts['endpoint']} {facts['status']}"
        _log.log(level, message, extra={"facts": {**facts, "seconds": round(seconds, 6)}})


def _forget(_: BaseException | None) -> None:
    """Let later lines be of no request; those of a stream that breaks off are still to come."""
    if not g.get("is_streamed", False):
        end()
