"""The visitor of a page: the session's cookie, and the token of its forms."""

import hashlib
import secrets
import time
from dataclasses import dataclass

from flask import Request, current_app, request
from werkzeug.wrappers import Response

from ccapi.db.pool import Database
from ccapi.errors import Forbidden, Unauthenticated
from ccapi.http import request_log
from ccapi.http.cache import Caches
from ccapi.model.token import ValidToken
from ccapi.service import sessions, tokens
from ccapi.web.proxy_login import ProxyLogin

# Browsers take a cookie with this prefix only over TLS, and only from this host.
_SECURE_PREFIX = "__Host-"
_COOKIE = "ccapi"
_MAX_SECRET_LENGTH = 100


@dataclass(frozen=True)
class Visitor:
    """A person with a valid session, whose secret it is, or one whom a proxy has authenticated.

    Then the cookie has a secret for the forms alone.
    """

    token: ValidToken
    secret: str
    is_by_proxy: bool = False

    @property
    def form_token(self) -> str:
        """Return what each form of this session must send; it does not reveal the secret."""
        return hashlib.sha256(f"form {self.secret}".encode()).hexdigest()

    def require_form(self, form_request: Request) -> None:
        """Check that a request comes from one of this session's forms; raises Forbidden."""
        require_same_site(form_request)
        if form_request.form.get("form_token") != self.form_token:
            raise Forbidden("the form is not of this session: reload the page and try again")


def require_same_site(form_request: Request) -> None:
    """Check that no other site sent a form; raises Forbidden.

    Browsers that do not send Sec-Fetch-Site send Origin.
    """
    headers = form_request.headers
    site = headers.get("Sec-Fetch-Site")
    origin = headers.get("Origin", form_request.host_url.rstrip("/"))
    if site is None and origin.partition("://")[2] == form_request.host:
        site = "same-origin"
    if site not in {"same-origin", "none"}:
        raise Forbidden("the form comes from another site")


def current_visitor(database: Database, caches: Caches) -> Visitor:
    """Return who sends the current request; a session is looked up once a second at most.

    Raises Unauthenticated, TooManyRequests, DatabaseUnavailable.
    """
    secret = read_cookie()
    proxy_login: ProxyLogin = current_app.extensions["ccapi_proxy_login"]
    if (by_proxy := proxy_login.find_visitor(request.environ)) is not None:
        request_log.current().token = by_proxy
        return Visitor(by_proxy, secret or secrets.token_urlsafe(32), is_by_proxy=True)
    if not secret:
        raise Unauthenticated("there is no session: log in")
    digest = tokens.digest(secret)
    token = caches.tokens.get(("session", digest)) or _look_up(digest, database, caches)
    caches.recent_sessions.use(digest)
    request_log.current().token = token
    return Visitor(token, secret)


def _look_up(digest: bytes, database: Database, caches: Caches) -> ValidToken:
    """Look up a session; one that is in use, with all others of this worker that are in use.

    Raises Unauthenticated, TooManyRequests, DatabaseUnavailable.
    """
    with caches.session_lock:
        if (token := caches.tokens.get(("session", digest))) is not None:
            return token  # Another thread has just looked it up.
        caches.unknown_tokens.require_allowed(digest)
        started_at = time.monotonic()
        # All together, so that they also expire together.
        digests = {*caches.recent_sessions.list()}
        if digest not in digests:
            digests = {digest}
        valid = sessions.authenticate(database, digests)
        caches.recent_sessions.discard(digests - valid.keys())
        caches.unknown_tokens.record(digest, is_valid=digest in valid)
        for one, token in valid.items():
            if token.is_cacheable:
                caches.tokens.put(("session", one), token, started_at)
    if digest not in valid:
        raise Unauthenticated("the session has ended: log in again")
    return valid[digest]


def read_cookie() -> str:
    """Return the secret of the request's session, "" without one."""
    secret = request.cookies.get(_cookie_name(), "")
    return secret if len(secret) <= _MAX_SECRET_LENGTH else ""


def set_cookie(response: Response, secret: str) -> None:
    """Give a browser its session, or with "" take it away."""
    response.set_cookie(
        _cookie_name(),
        secret,
        max_age=sessions.SESSION_LIFETIME if secret else 0,
        secure=request.is_secure,
        httponly=True,
        samesite="Lax",
    )


def _cookie_name() -> str:
    return f"{_SECURE_PREFIX if request.is_secure else ''}{_COOKIE}"
