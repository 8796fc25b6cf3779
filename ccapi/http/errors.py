"""One body for every error, and one table from facts to HTTP statuses."""

import logging
from collections.abc import Iterable

import orjson
from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.http import HTTP_STATUS_CODES

from ccapi import errors
from ccapi.http import request_log

_log = logging.getLogger(__name__)

_STATUS: dict[type[errors.CcapiError], int] = {
    errors.InvalidInput: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.UnknownJob: 404,
    errors.BodyTooLarge: 413,
    errors.Unprocessable: 422,
    errors.ArchiveError: 500,
    errors.DatabaseUnavailable: 503,
    errors.Unfinished: 503,
}
_HINTS = {
    404: "there is nothing at {path}; /api/openapi.json lists the paths",
    405: "{path} does not take {method}; the Allow header lists what it takes",
}
_RETRY_AFTER_SECONDS = "5"
_INTERNAL = "the server failed; its log has the reason under request id {request_id}"


def register(app: Flask) -> None:
    """Give every error of the app the one body."""
    app.register_error_handler(errors.CcapiError, _answer_fact)
    app.register_error_handler(HTTPException, _answer_http)
    app.register_error_handler(Exception, _answer_bug)


def body(status: int, error: str, headers: Iterable[tuple[str, str]] = ()) -> Response:
    """Make the response of an error: {"status": reason phrase, "error": what to do}."""
    content = orjson.dumps({"status": HTTP_STATUS_CODES[status], "error": error})
    response = Response(content, status, content_type="application/json")
    response.headers.update(headers)
    return response


def _answer_fact(error: errors.CcapiError) -> Response:
    request_log.refused(error)
    status = next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)
    if status == 500:
        return _answer_bug(error)
    if isinstance(error, errors.DatabaseUnavailable):
        _log.error("request %s: %s", request_log.current().request_id, error)
        return body(status, error.advice, [("Retry-After", _RETRY_AFTER_SECONDS)])
    if status == 503:
        return body(status, str(error), [("Retry-After", _RETRY_AFTER_SECONDS)])
    if status == 401:
        return body(status, str(error), [("WWW-Authenticate", 'Bearer realm="ccapi"')])
    return body(status, str(error))


def _answer_http(error: HTTPException) -> Response:
    if isinstance(error, NotFound) and error is request.routing_exception:
        error = _seen_with_slash(error)
    request_log.refused(error)
    status = error.code or 500
    hint = _HINTS.get(status, error.description or "")
    kept = [(name, value) for name, value in error.get_headers() if name != "Content-Type"]
    return body(status, hint.format(path=request.path, method=request.method), kept)


def _seen_with_slash(error: NotFound) -> HTTPException:
    """Tell a wrong method from an unknown path where a slash was forgotten; werkzeug does not."""
    routes = current_app.create_url_adapter(request)
    allowed = routes.allowed_methods(f"{request.path}/") if routes else ()
    return MethodNotAllowed(allowed) if allowed else error


def _answer_bug(error: Exception) -> Response:
    account = request_log.current()
    asked = account.request_id, request.method, account.endpoint
    _log.error("request %s: %s %s", *asked, exc_info=error)
    return body(500, _INTERNAL.format(request_id=account.request_id))
