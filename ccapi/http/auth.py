"""Who asks, and whether they may."""

import time
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from flask import request

from ccapi.errors import Forbidden, Unauthenticated
from ccapi.http import request_log as accounting
from ccapi.http.current import context, sharing
from ccapi.model.token import Role, ValidToken
from ccapi.service import tokens

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
_SENT_AS = "send a token as `X-Auth-Token: TOKEN` or `Authorization: Bearer TOKEN`"


def requires(role: Role) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Let only tokens of a role pass to the view; comes before anything reads the request.

    The view raises Unauthenticated without a valid token and Forbidden when its role
    does not include `role`.
    """

    def decorate(view: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        @wraps(view)
        def guarded(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            _require(role)
            return view(*args, **kwargs)

        return guarded

    return decorate


def _require(role: Role) -> None:
    admit(_recognised(read_token(request.environ)), role)


def _recognised(secret: str) -> ValidToken | None:
    """Find the token that a request presents; a look at the database serves for a second.

    Who revokes a token waits until that is over.
    """
    known = sharing().tokens
    key = tokens.digest(secret)
    if (token := known.find(key)) is not None:
        return token
    begun = time.monotonic()
    token = tokens.authenticate(context().database, secret)
    if token is not None and token.is_cacheable:
        known.keep(key, token, begun)
    return token


def current_token() -> ValidToken:
    """Return the token of the current request, which `requires` has let pass."""
    token = accounting.current().token
    assert token is not None
    return token


def admit(token: ValidToken | None, role: Role) -> None:
    """Let a token's request pass; raises Unauthenticated for none, Forbidden."""
    if token is None:
        raise Unauthenticated(f"the token is unknown, expired or revoked; {_SENT_AS}")
    if not token.role.includes(role):
        raise Forbidden(f"this needs a token of role {role}; {token.name} is a {token.role}")
    accounting.current().token = token


def read_token(environ: Mapping[str, Any]) -> str:
    """Return the secret that came with a request; raises Unauthenticated."""
    secret: str | None = environ.get("HTTP_X_AUTH_TOKEN")
    if secret is not None:
        return secret
    scheme, _, secret = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise Unauthenticated(f"no token came with the request; {_SENT_AS}")
    return secret.strip()
