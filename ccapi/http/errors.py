"""One body for every error, and one table from errors to HTTP statuses."""

import logging
import math
from collections.abc import Iterable

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.http import HTTP_STATUS_CODES

from ccapi import errors
from ccapi.http import json_format, request_log

_log = logging.getLogger(__name__)

_STATUS: dict[type[errors.CcapiError], int] = {
    errors.InvalidInput: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.Unknown: 404,
    errors.BodyTooLarge: 413,
    errors.Unprocessable: 422,
    errors.TooManyRequests: 429,
    errors.ArchiveError: 500,
    errors.Busy: 503,
    errors.DatabaseUnavailable: 503,
    errors.Unfinished: 503,
}
_HINTS = {
    404: "there is nothing at {path}; /api/openapi.json lists the paths",
    405: "{path} does not accept {method}; the Allow header lists what it accepts",
}
_RETRY_AFTER_SECONDS = "5"
_MAX_BYTES = 4096
# JSON needs up to six bytes for a character.
_CUT_LENGTH = 600
_INTERNAL = "the server failed; its log has the reason under request id {request_id}"


def register(app: Flask) -> None:
    """Handle every error of the app."""
    app.register_error_handler(errors.CcapiError, handle_error)
    app.register_error_handler(HTTPException, handle_http_exception)
    app.register_error_handler(Exception, handle_unexpected)


def error_response(status: int, error: str, headers: Iterable[tuple[str, str]] = ()) -> Response:
    """Make the response of an error."""
    body = _body(status, error)
    response = Response(body, status, content_type=json_format.CONTENT_TYPE)
    response.headers.update(headers)
    return response


def describe(error: Exception) -> tuple[int, bytes]:
    """Return the status and the body that a request gets which fails alone."""
    status = _status(error)
    if status == 500:
        return status, _body(status, _INTERNAL.format(request_id=request_log.current().request_id))
    if isinstance(error, errors.DatabaseUnavailable):
        return status, _body(status, error.advice)
    return status, _body(status, str(error))


def _status(error: Exception) -> int:
    return next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 500)


def _body(status: int, error: str) -> bytes:
    """Return {"status": reason phrase, "error": what to do}.

    A message that repeats much of the request is cut.
    """
    body = json_format.dumps({"status": HTTP_STATUS_CODES[status], "error": error})
    if len(body) > _MAX_BYTES:
        error = f"{error[:_CUT_LENGTH]} ..."
        body = json_format.dumps({"status": HTTP_STATUS_CODES[status], "error": error})
    return body


def handle_error(error: errors.CcapiError) -> Response:
    """Answer with the error's message, or with less where it is not for the caller."""
    request_log.record_refusal(error)
    status = _status(error)
    if status == 500:
        return handle_unexpected(error)
    if isinstance(error, errors.DatabaseUnavailable):
        _log.error("request %s: %s", request_log.current().request_id, error)
        return error_response(status, error.advice, [("Retry-After", _RETRY_AFTER_SECONDS)])
    if isinstance(error, errors.TooManyRequests):
        retry_after = str(math.ceil(error.retry_after))
        return error_response(status, str(error), [("Retry-After", retry_after)])
    if status == 503:
        return error_response(status, str(error), [("Retry-After", _RETRY_AFTER_SECONDS)])
    if status == 401:
        return error_response(status, str(error), [("WWW-Authenticate", 'Bearer realm="ccapi"')])
    return error_response(status, str(error))


def handle_http_exception(error: HTTPException) -> Response:
    """Answer what werkzeug refuses: unknown paths and methods, bad headers."""
    if isinstance(error, NotFound) and error is request.routing_exception:
        error = as_method_not_allowed(error)
    request_log.record_refusal(error)
    status = error.code or 500
    hint = _HINTS.get(status, error.description or "")
    headers = [(name, value) for name, value in error.get_headers() if name != "Content-Type"]
    return error_response(status, hint.format(path=request.path, method=request.method), headers)


def as_method_not_allowed(error: NotFound) -> HTTPException:
    """Return a 405 if only the slash at the path's end is missing, unlike werkzeug."""
    routes = current_app.create_url_adapter(request)
    allowed = routes.allowed_methods(f"{request.path}/") if routes else ()
    return MethodNotAllowed(allowed) if allowed else error


def handle_unexpected(error: Exception) -> Response:
    """Log a failure of the server; the caller gets the request's id only."""
    info = request_log.current()
    _log.error("request %s: %s %s", info.request_id, request.method, info.endpoint, exc_info=error)
    return error_response(500, _INTERNAL.format(request_id=info.request_id))
