"""Log in with a token or a link, and out."""

import re
from typing import Any

from flask import Response, current_app, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as WerkzeugResponse

from ccapi.context import Context
from ccapi.http import auth, request_log
from ccapi.http.cache import Caches
from ccapi.service import sessions, tokens
from ccapi.web import visitor
from ccapi.web.pages import blueprint

# A path of this site: "//host" and "/\host" are others.
_PATH = re.compile(r"/(?![/\\])[!-~]*")


@blueprint.get("/login")
def login_page() -> str | WerkzeugResponse:
    """Show the form for a token; a login link begins its session, once.

    A link counts only if a person opened it: no other site, and no browser that looks ahead.
    """
    context: Context = current_app.extensions["ccapi"]
    caches: Caches = current_app.extensions["ccapi_caches"]
    code = request.args.get("code", "")
    is_followed = request.headers.get("Sec-Fetch-Site", "none") in {"none", "same-origin"}
    is_opened = request.method == "GET" and "Sec-Purpose" not in request.headers
    if code and is_followed and is_opened:
        key = auth.cache_key(code)
        caches.unknown_tokens.require_allowed(key)
        secret = sessions.begin_by_link(context.database, code)
        caches.unknown_tokens.record(key, is_valid=secret is not None)
        if secret is not None:
            return _enter(secret)
        return render_template("login.html", error="The link was used before, or has expired.")
    return render_template("login.html", error="")


@blueprint.post("/login")
def log_in() -> Response | WerkzeugResponse:
    """Begin a session with a token."""
    context: Context = current_app.extensions["ccapi"]
    visitor.require_same_site(request)
    caches: Caches = current_app.extensions["ccapi_caches"]
    secret = request.form.get("token", "").strip()
    key = auth.cache_key(secret)
    caches.unknown_tokens.require_allowed(key)
    token = tokens.authenticate(context.database, secret)
    caches.unknown_tokens.record(key, is_valid=token is not None)
    if token is None:
        error = "This token is unknown, expired or revoked."
        return Response(render_template("login.html", error=error), 403)
    request_log.current().token = token
    return _enter(sessions.begin(context.database, token))


def _enter(secret: str) -> WerkzeugResponse:
    path = request.args.get("next", "/")
    response = redirect(path if _PATH.fullmatch(path) else "/", 303)
    visitor.set_cookie(response, secret)
    return response


@blueprint.page("/logout", methods=("POST",))
def log_out(context: Context, **_: Any) -> WerkzeugResponse:
    """End the session."""
    sessions.end(context.database, visitor.read_cookie())
    response = redirect(url_for("web.login_page"), 303)
    visitor.set_cookie(response, "")
    return response
