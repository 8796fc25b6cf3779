"""What readers share is sent before the framework looks at the request: most of the cost."""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ccapi.errors import Unauthenticated
from ccapi.http import auth as authentication
from ccapi.http import request_log
from ccapi.http.cache import CachedResponse, Sharing, question
from ccapi.model.token import Role
from ccapi.service import tokens

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_REASONS = {200: "200 OK", 304: "304 NOT MODIFIED"}


class Shortcut:
    """A WSGI application before another: it answers what is kept, and leaves the rest to it.

    What it sends, and what is told of the request, is what the operation would.
    """

    def __init__(self, application: "WSGIApplication", shared: Sharing) -> None:
        self._application, self._shared = application, shared

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer a request."""
        answer = self._find(environ)
        if answer is None:
            return self._application(environ, start_response)
        status, body, headers = answer.sent(environ.get("HTTP_IF_NONE_MATCH", ""))
        start_response(_REASONS[status], list(headers.items()))
        return [body]

    def _find(self, environ: "WSGIEnvironment") -> CachedResponse | None:
        """Find what is kept of the answer, if a reader asks whose token is known."""
        arrived = time.monotonic()
        if environ["REQUEST_METHOD"] != "GET":
            return None
        answer = self._shared.answers.find(question(environ), arrived)
        if not isinstance(answer, CachedResponse):
            return None
        try:
            secret = authentication.read_token(environ)
        except Unauthenticated:
            return None
        token = self._shared.tokens.find(tokens.digest(secret), arrived)
        if token is None or token.role is not Role.READER:
            return None
        account = request_log.current()
        account.token, account.endpoint, account.job = token, answer.endpoint, answer.job
        return answer
