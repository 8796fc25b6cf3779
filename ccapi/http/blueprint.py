"""The blueprint of the contract's operations.

Use it like flask-smorest's. Its `route` also checks the token's role, gives the view the
Context, and documents the errors; its `response` sends what the view returns as JSON.
"""

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial, wraps
from typing import Any

from flask import Blueprint as FlaskBlueprint
from flask import Response, current_app, request
from flask_smorest import Blueprint as SmorestBlueprint
from marshmallow import Schema

from ccapi.context import Context
from ccapi.errors import HubChangesNothing, InvalidInput
from ccapi.http import auth, cache, json_format, request_log
from ccapi.http.parser import RequestParser
from ccapi.http.schema import ErrorResponse
from ccapi.model.rules import MAX_INTEGER
from ccapi.model.token import ALL_JOBS, Role

View = Callable[..., Any]

_ERRORS = {
    400: "The request does not follow the contract",
    401: "The request has no valid token",
    403: "The token's role does not allow this",
    404: "There is nothing with this id",
    422: "The state of the registry does not allow this",
    500: "The server failed",
}
_MAX_ID_DIGITS = 40


class Blueprint(SmorestBlueprint):  # type: ignore[misc] # flask-smorest ships no types
    """A blueprint whose operations check the token, then the path, the query and the body."""

    ARGUMENTS_PARSER = RequestParser()

    def route(
        self,
        rule: str,
        role: Role,
        *,
        methods: list[str],
        tags: list[str],
        errors: Collection[int] = (),
        alias: str | None = None,
        cached: bool = False,
        undocumented: Collection[int | str] = (),
        open_to: str | None = None,
    ) -> Callable[[View], View]:
        """Route requests of tokens that include a role to a view.

        The view gets the Context, what `arguments` parsed, and the path's integers by name.
        `errors` are documented beside those that every operation has. `alias` is another
        method that clients use; the contract does not have it. `undocumented` are errors and
        keys that the contract's document does not have. `open_to` names the app's setting of
        networks whose clients need no token. ccapi/http/cache.py explains `cached`.
        """

        def decorate(view: View) -> View:
            # flask-smorest's decorators collect what they document in a function's attribute.
            documented: dict[str, Any] = vars(view)["_apidoc"]
            arguments = documented.get("arguments", {}).get("parameters", ())
            locations = {argument["in"] for argument in arguments}
            statuses = {400, 401, 403, 500, *errors, *((404,) if "<" in rule else ())}
            documentation: dict[str, Any] = {
                "responses": {
                    status: {"description": _ERRORS[status], "schema": ErrorResponse}
                    for status in statuses.difference(undocumented)
                },
                "security": [{"ApiKeyAuth": []}],
            }
            if "json" in locations and "consumes" not in undocumented:
                documentation["consumes"] = [json_format.CONTENT_TYPE]
            operation = _operation(
                view, role, has_query="query" in locations, cached=cached, open_to=open_to
            )
            operation = self.doc(**documentation)(operation)
            self.add_url_rule(rule, view_func=operation, methods=methods, tags=tags)
            if alias is not None:
                FlaskBlueprint.add_url_rule(self, rule, view.__name__, operation, methods=[alias])
            return view

        return decorate

    def arguments(
        self, schema: Schema, *, location: str = "json", description: str | None = None
    ) -> Callable[[View], View]:
        """Give the view a checked body, or with location "query" a checked query."""
        decorate: Callable[[View], View] = super().arguments(
            schema, location=location, description=description
        )
        return decorate

    def raw_body(
        self, schema: Schema, *, content_type: str, description: str
    ) -> Callable[[View], View]:
        """Document a body that the view parses."""
        body = {"in": "body", "name": "request", "required": True, "schema": schema}
        decorate: Callable[[View], View] = self.doc(
            consumes=[content_type], parameters=[{**body, "description": description}]
        )
        return decorate

    def response(
        self,
        status_code: int,
        schema: Schema,
        *,
        description: str,
        produces: Collection[str] = (json_format.CONTENT_TYPE,),
    ) -> Callable[[View], View]:
        """Document a success, and send what the view returns as JSON, unless it is a Response."""
        documentation = {"description": description, "schema": schema}

        def decorate(view: View) -> View:
            @wraps(view)
            def respond(*args: Any, **kwargs: Any) -> Response:
                content = view(*args, **kwargs)
                if isinstance(content, Response):
                    return content
                body = json_format.dumps(content)
                return Response(body, status_code, content_type=json_format.CONTENT_TYPE)

            document = self.doc(responses={status_code: documentation}, produces=[*produces])
            decorated: View = document(respond)
            return decorated

        return decorate


def _operation(
    view: View, role: Role, *, has_query: bool, cached: bool, open_to: str | None
) -> View:
    """Check the token and the path before the view."""
    roles = frozenset(other for other in Role if other.includes(role))

    @wraps(view)
    def operation(**path: Any) -> Response:
        context: Context = current_app.extensions["ccapi"]
        caches: cache.Caches = current_app.extensions["ccapi_caches"]
        networks = current_app.config[open_to] if open_to else ()
        if auth.is_anonymous(request.environ, networks):
            token = auth.ANONYMOUS
        else:
            token = auth.authenticate(request.environ, context.database, caches)
        auth.authorize(token, roles)
        if role is Role.READER:  # Reports are not limited.
            context.budgets.begin(token.id)
        elif context.is_hub:
            raise HubChangesNothing
        if token.scope != ALL_JOBS:
            context = replace(context, scope=token.scope)
        if request.query_string and not has_query:
            raise InvalidInput(f"{request.path} does not accept query parameters")
        numbers = {name: _path_integer(name, str(text)) for name, text in path.items()}
        request_log.current().job = numbers.get("id")
        answer: Callable[[Context], Response] = partial(view, **numbers)
        if cached:
            return cache.respond(request, token, answer, context, caches.responses)
        return answer(context)

    return operation


def _path_integer(name: str, text: str) -> int:
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdigit() and len(digits) <= _MAX_ID_DIGITS:
        number = int(text)
        if abs(number) <= MAX_INTEGER:
            return number
    raise InvalidInput.of(name, f"must be a 64-bit integer, not {text[:40]!r}")
