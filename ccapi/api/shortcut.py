"""What readers share is sent before the framework looks at the request: most of the cost."""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from werkzeug.datastructures import EnvironHeaders

from ccapi.api import accounting, authentication
from ccapi.api.sharing import Answer, Sharing, question
from ccapi.errors import Unauthenticated
from ccapi.model.token import Role, ValidToken
from ccapi.service import tokens

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_REASONS = {200: "200 OK", 304: "304 NOT MODIFIED"}


class Shortcut:
    """A WSGI application before another: it answers what is kept, and leaves the rest to it.

    What it sends, logs and counts is what the operation would.
    """

    def __init__(self, application: "WSGIApplication", shared: Sharing) -> None:
        self._application, self._shared = application, shared

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer a request."""
        begun = time.perf_counter()
        headers = EnvironHeaders(environ)
        token, answer = self._find(environ, headers)
        if token is None or answer is None:
            return self._application(environ, start_response)
        request_id = accounting.begin(headers)
        status, body, shown = answer.sent(headers.get("If-None-Match", ""))
        shown["X-Request-Id"] = request_id
        start_response(_REASONS[status], list(shown.items()))
        accounting.record({**answer.asked, "status": status, "token": token.name}, begun)
        accounting.end()
        return [body]

    def _find(
        self, environ: "WSGIEnvironment", headers: EnvironHeaders
    ) -> tuple[ValidToken | None, Answer | None]:
        """Find the reader's token and what is kept of the answer; None for what is not known."""
        arrived = time.monotonic()
        if environ["REQUEST_METHOD"] != "GET":
            return None, None
        answer = self._shared.answers.find(question(environ), arrived)
        if not isinstance(answer, Answer):
            return None, None
        try:
            secret = authentication.presented(headers)
        except Unauthenticated:
            return None, None
        token = self._shared.tokens.find(tokens.digest(secret), arrived)
        return (token if token is not None and token.role is Role.READER else None), answer
