"""The blueprint of the contract's operations: how one is declared, and what it documents."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

from flask import Blueprint as FlaskBlueprint
from flask import Response, request
from flask_smorest import Blueprint as SmorestBlueprint
from marshmallow import Schema

from ccapi import metrics
from ccapi.api.schemas import ErrorResponse
from ccapi.errors import DatabaseUnavailable, InvalidInput, TooSlow
from ccapi.http import cache, current, request_log
from ccapi.http.auth import current_token, requires
from ccapi.http.parser import RequestParser
from ccapi.model.rules import MAX_INTEGER
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


@dataclass(frozen=True, kw_only=True)
class Documented:
    """What the document says of an operation, beyond its docstring, body and query.

    `answer` is the status, schema and description of a success.
    """

    group: str
    answer: tuple[int, Schema, str]
    errors: tuple[int, ...]
    body: str = ""
    consumes: bool = False
    also_produces: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """Return the operation's part of the document."""
        status, schema, description = self.answer
        responses: dict[int, Any] = {status: {"description": description, "schema": schema}}
        for error in self.errors:
            responses[error] = {"description": _ERRORS[error], "schema": ErrorResponse}
        facts: dict[str, Any] = {
            "responses": responses,
            "security": [{"ApiKeyAuth": []}],
            "produces": [*_JSON, *self.also_produces],
        }
        return {**facts, "consumes": _JSON} if self.consumes else facts


class Blueprint(SmorestBlueprint):  # type: ignore[misc] # flask-smorest ships no types
    """Operations that check the token first, then the path, then query and body."""

    ARGUMENTS_PARSER = RequestParser()

    def operation(
        self,
        rule: str,
        method: str,
        role: Role,
        documented: Documented,
        *,
        body: Schema | None = None,
        query: Schema | None = None,
        also: str | None = None,
        is_shared: bool = False,
    ) -> Callable[[View], View]:
        """Declare an operation: its route, who may call it, and what it takes.

        The view gets the checked body or query first, and the path's integers by name.
        `also` is a second method that clients in the field use; the document shows the
        contract's only. The same question to a shared one is asked once within a short time.
        """

        def decorate(view: View) -> View:
            if body is not None:
                view = self.arguments(body, description=documented.body)(view)
            if query is not None:
                view = self.arguments(query, location="query")(view)
            view = _checked_address(view, takes_query=query is not None)
            view = requires(role)(_shared(view) if is_shared else view)
            view = self.doc(**documented.facts())(view)
            self.add_url_rule(rule, view_func=view, methods=[method], tags=[documented.group])
            if also is not None:
                endpoint = f"{view.__name__}_{also.lower()}"
                FlaskBlueprint.add_url_rule(self, rule, endpoint, view, methods=[also])
            return view

        return decorate


def _shared(view: View) -> View:
    """Answer readers who ask the same from one answer; who writes gets a fresh one."""

    @wraps(view)
    def shared(*args: Any, **kwargs: Any) -> Response:
        ask = partial(view, *args, **kwargs)
        if current_token().role is not Role.READER:
            return cache.respond(ask())
        answers, question = current.sharing().answers, cache.question(request.environ)
        return cache.respond(answers.get(question, partial(_noted, ask), cache.size_of))

    return shared


def _noted(ask: Callable[[], cache.CachedResponse | Response]) -> cache.CachedResponse | Response:
    """Note with an answer what was asked, for ccapi/http/cache_middleware.py."""
    answered = _read(ask)
    if isinstance(answered, cache.CachedResponse):
        account = request_log.current()
        return replace(answered, endpoint=account.endpoint, job=account.job)
    return answered


def _read(ask: Callable[[], cache.CachedResponse | Response]) -> cache.CachedResponse | Response:
    """Ask the replica, if there is one and it can answer, else the primary."""
    replica = current.context().replica
    if replica is None:
        return ask()
    if replica.is_usable():
        try:
            with current.reading_from(replica.database):
                answered = ask()
        except TooSlow:
            raise  # It would be on the primary, too, and the replica is as good as before.
        except DatabaseUnavailable as error:
            replica.pause(str(error))
        else:
            metrics.child(metrics.READS, "replica").inc()
            return answered
    metrics.child(metrics.READS, "primary").inc()
    return ask()


def _checked_address(
    view: Callable[Parameters, Result], *, takes_query: bool
) -> Callable[Parameters, Result]:
    """Refuse unknown query parameters, and turn the path's words into integers."""

    @wraps(view)
    def checked(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        if not takes_query and request.query_string:
            raise InvalidInput(f"{request.path} takes no query parameters")
        for name, text in kwargs.items():
            kwargs[name] = number = _path_integer(name, str(text))
            if name == "id":
                request_log.current().job = number
        return view(*args, **kwargs)

    return checked


def _path_integer(name: str, text: str) -> int:
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdigit() and len(digits) <= _ID_DIGITS:
        number = int(text)
        if abs(number) <= MAX_INTEGER:
            return number
    raise InvalidInput.of(name, f"must be an integer of 64 bits in the path, not {text[:40]!r}")
