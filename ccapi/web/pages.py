"""The blueprint of the pages: login, roles, headers, errors; nothing of jobs.

`page` gives a view the Context with the visitor's scope, and the checked query.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, wraps
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from flask import (
    Blueprint,
    Flask,
    Response,
    current_app,
    g,
    redirect,
    render_template,
    request,
    url_for,
)
from markupsafe import Markup
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as WerkzeugResponse

from ccapi import __version__
from ccapi.context import Context
from ccapi.errors import CcapiError, HubChangesNothing, Unauthenticated
from ccapi.http import auth, csv_format, errors, json_format
from ccapi.http.cache import CachedResponse, Caches, compute
from ccapi.http.parser import RequestParser
from ccapi.http.schema import QuerySchema
from ccapi.model.token import ALL_JOBS, Role
from ccapi.web import words
from ccapi.web.proxy_login import ProxyLogin
from ccapi.web.visitor import Visitor, current_visitor, read_cookie, set_cookie

View = Callable[..., Any]
_YEAR_SECONDS = 365 * 86_400
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_STATIC = Path(__file__).parent / "static"
_parser = RequestParser()


class _NoQuery(QuerySchema):
    """The query of a page without parameters."""


class Pages(Blueprint):
    """A blueprint whose views need a login."""

    def page(
        self,
        rule: str,
        *,
        query: QuerySchema | None = None,
        role: Role = Role.READER,
        methods: tuple[str, ...] = ("GET",),
    ) -> Callable[[View], View]:
        """Route requests of visitors whose role includes `role` to a view.

        The view gets the Context, the path's texts by name and, unless it is a form's, the
        checked query. A form must be one of ours.
        """
        roles = frozenset(other for other in Role if other.includes(role))
        schema = query or _NoQuery()

        def decorate(view: View) -> View:
            @wraps(view)
            def respond(**path: str) -> Any:
                context: Context = current_app.extensions["ccapi"]
                caches: Caches = current_app.extensions["ccapi_caches"]
                g.visitor = visitor = current_visitor(context.database, caches)
                auth.authorize(visitor.token, roles)
                if role is not Role.READER and context.is_hub:
                    raise HubChangesNothing
                if visitor.token.scope != ALL_JOBS:
                    context = replace(context, scope=visitor.token.scope)
                if request.method == "POST":
                    visitor.require_form(request)
                    return view(context, **path)
                context.budgets.begin(visitor.token.id)
                if "filter" in request.args:
                    return redirect(words.tidy_address(request), 303)
                return view(context, _parser.parse(schema, request, location="query"), **path)

            self.add_url_rule(rule, view_func=respond, methods=methods)
            return respond

        return decorate

    def get_send_file_max_age(self, filename: str | None) -> int | None:
        """Let browsers keep a file for a year: its address has its digest."""
        del filename
        return _YEAR_SECONDS


blueprint = Pages(
    "web", __name__, template_folder="templates", static_folder="static", static_url_path="/static"
)
for _filter in (
    words.count,
    words.duration,
    words.field_time,
    words.percent,
    words.time_tag,
):
    blueprint.add_app_template_filter(_filter)
blueprint.add_app_template_filter(
    lambda name, kind: words.person_address(kind, name), "person_address"
)


def create(app: Flask, job_links: Sequence[tuple[str, str]], proxy_login: ProxyLogin) -> None:
    """Serve the pages, with links of jobs: their names, and templates of their addresses."""
    app.config["JOB_LINKS"] = job_links
    app.extensions["ccapi_proxy_login"] = proxy_login
    app.register_blueprint(blueprint)


@blueprint.app_context_processor
def template_values() -> dict[str, Any]:
    """Return what every template uses."""
    visitor: Visitor | None = g.get("visitor")
    return {"visitor": visitor, "static": static_address, "version": __version__}


@cache
def static_address(name: str) -> str:
    """Return the address of a file of static/, with its digest."""
    digest = hashlib.sha256((_STATIC / name).read_bytes()).hexdigest()
    return f"/static/{name}?v={digest[:12]}"


def shared_part(
    name: str,
    context: Context,
    render: Callable[[Context], str],
    *,
    is_live: bool = False,
) -> Markup:
    """Return a part of a page that readers who see the same jobs share for a second.

    It depends on nothing but its name, the query string and the scope. A live part, which the
    page renews by itself, is shared for six seconds.
    """
    caches: Caches = current_app.extensions["ccapi_caches"]
    response = compute(
        (name, request.query_string),
        g.visitor.token,
        lambda context: Response(render(context)),
        context,
        caches.parts,
        ttl=None if is_live else caches.response_ttl,
    )
    body = response.body if isinstance(response, CachedResponse) else response.get_data()
    return Markup(body.decode())  # noqa: S704 - a template has escaped what is in it


def data_response(
    format_: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]], content: Any
) -> Response:
    """Return rows as CSV, or content as JSON."""
    if format_ == "csv":
        body = csv_format.header(columns) + csv_format.lines(columns, rows)
        return Response(body, content_type=csv_format.CONTENT_TYPE)
    return Response(json_format.dumps(content), content_type=json_format.CONTENT_TYPE)


@blueprint.after_request
def add_headers(response: Response) -> Response:
    """Forbid what the pages do not need, and keep them out of caches."""
    response.headers.update(_HEADERS)
    if request.endpoint != "web.static":
        response.headers["Cache-Control"] = "no-store"
    visitor: Visitor | None = g.get("visitor")
    if visitor is not None and visitor.is_by_proxy and not read_cookie():
        set_cookie(response, visitor.secret)
    return response


@blueprint.errorhandler(Exception)
def show_error(error: Exception) -> Response | WerkzeugResponse:
    """Show an error as a page; without a session, lead to the login and back."""
    if isinstance(error, CcapiError):
        response = errors.handle_error(error)
    elif isinstance(error, HTTPException):
        response = errors.handle_http_exception(error)
    else:
        response = errors.handle_unexpected(error)
    if isinstance(error, Unauthenticated):
        if "HX-Request" in request.headers:
            return Response(status=401, headers={"HX-Refresh": "true"})
        back = request.full_path.rstrip("?") if request.method == "GET" else "/"
        return redirect(f"{url_for('web.login_page')}?{urlencode({'next': back})}", 303)
    page = render_template("error.html", **response.get_json(), code=response.status_code)
    headers = {
        name: response.headers[name] for name in ("Retry-After",) if name in response.headers
    }
    return Response(page, response.status_code, headers)
