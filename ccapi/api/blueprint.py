"""The blueprint of the contract's operations: how one is declared, and what it documents."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from flask import Blueprint as FlaskBlueprint
from flask import request
from flask_smorest import Blueprint as SmorestBlueprint
from marshmallow import Schema

from ccapi.api.authentication import requires
from ccapi.api.request_body import RequestParser
from ccapi.api.schemas import ErrorResponse
from ccapi.errors import InvalidInput
from ccapi.model.job import LARGEST_INTEGER
from ccapi.model.token import Role

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
View = Callable[..., Any]

_JSON = ["application/json"]
_ERRORS = {
    400: "The request does not follow the contract",
    401: "No valid token came with the request",
    403: "The token's role does not allow this",
    404: "There is no such job",
    422: "The registry's contents do not allow this",
    500: "The server failed",
}
_ID_DIGITS = 40


class Blueprint(SmorestBlueprint):  # type: ignore[misc] # flask-smorest ships no types
    """Operations that check the token first, then the path, then query and body."""

    ARGUMENTS_PARSER = RequestParser()

    def operation(
        self,
        rule: str,
        method: str,
        role: Role,
        *,
        also: str | None = None,
        body: Schema | None = None,
        body_description: str = "",
        query: Schema | None = None,
        consumes_json: bool = True,
        answers: tuple[int, Schema, str],
        errors: tuple[int, ...],
        group: str,
    ) -> Callable[[View], View]:
        """Declare an operation: its route, who may call it, what it takes and answers.

        `also` names a second method that clients in the field use; the document shows
        the contract's only. The view gets the checked body or query first, `id` as a
        keyword.
        """
        status, schema, description = answers
        documented = {
            "responses": _responses(status, schema, description, errors),
            "security": [{"ApiKeyAuth": []}],
            "produces": _JSON,
        }
        if body is not None and consumes_json:
            documented["consumes"] = _JSON

        def decorate(view: View) -> View:
            if body is not None:
                view = self.arguments(body, description=body_description)(view)
            if query is not None:
                view = self.arguments(query, location="query")(view)
            view = requires(role)(_checked_address(view, takes_query=query is not None))
            view = self.doc(**documented)(view)
            self.add_url_rule(rule, view_func=view, methods=[method], tags=[group])
            if also is not None:
                endpoint = f"{view.__name__}_{also.lower()}"
                FlaskBlueprint.add_url_rule(self, rule, endpoint, view, methods=[also])
            return view

        return decorate


def _responses(
    status: int, schema: Schema, description: str, errors: tuple[int, ...]
) -> dict[int, Any]:
    responses: dict[int, Any] = {status: {"description": description, "schema": schema}}
    for error in errors:
        responses[error] = {"description": _ERRORS[error], "schema": ErrorResponse}
    return responses


def _checked_address(
    view: Callable[Parameters, Result], *, takes_query: bool
) -> Callable[Parameters, Result]:
    """Refuse unknown query parameters, and turn the path's words into integers."""

    @wraps(view)
    def checked(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        if not takes_query and request.query_string:
            raise InvalidInput(f"{request.path} takes no query parameters")
        for name, text in kwargs.items():
            kwargs[name] = _path_integer(name, str(text))
        return view(*args, **kwargs)

    return checked


def _path_integer(name: str, text: str) -> int:
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdigit() and len(digits) <= _ID_DIGITS:
        number = int(text)
        if abs(number) <= LARGEST_INTEGER:
            return number
    raise InvalidInput.of(name, f"must be an integer of 64 bits in the path, not {text[:40]!r}")
