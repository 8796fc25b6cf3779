"""What Prometheus reads at /metrics: outside the contract, and by default with a token only."""

import hashlib
import math
import time
from functools import partial

from flask import Blueprint, Flask, Response, request

from ccapi import metrics
from ccapi.db.probe import CachedProbe
from ccapi.errors import DatabaseUnavailable
from ccapi.http import auth as authentication
from ccapi.http.current import context
from ccapi.model.token import Role
from ccapi.service import tokens
from ccapi.service.metrics import DatabaseGauges

_TIMEOUT_SECONDS = 2
_REMEMBERED_SECONDS = 3600


def create(app: Flask, *, open_to_all: bool) -> None:
    """Serve /metrics, to every reader's token or to whoever reaches it."""
    blueprint = Blueprint("exposition", __name__)
    observation = DatabaseGauges(context(app))

    def read() -> Response:
        """Answer what is counted, in Prometheus' text format."""
        content = metrics.exposition(observation.collect())
        return Response(content, content_type=metrics.CONTENT_TYPE)

    if not open_to_all:
        blueprint.before_request(_Guard().require_token)
    blueprint.add_url_rule("/metrics", "metrics", read)
    app.register_blueprint(blueprint)


class _Guard:
    """Asks for a token, and knows those it has seen while the database is down.

    Then, above all, the metrics are wanted.
    """

    def __init__(self) -> None:
        self._seen: dict[bytes, float] = {}

    def require_token(self) -> None:
        """Let any valid token pass; raises Unauthenticated, DatabaseUnavailable."""
        secret = authentication.read_token(request.environ)
        digest = hashlib.sha256(secret.encode()).digest()
        ask = partial(tokens.authenticate, context().database, secret)
        try:
            token = CachedProbe(ask, ttl_seconds=0).result(_TIMEOUT_SECONDS)
        except (DatabaseUnavailable, TimeoutError) as error:
            if time.monotonic() - self._seen.get(digest, -math.inf) > _REMEMBERED_SECONDS:
                raise DatabaseUnavailable(str(error) or "the token is not found in time") from error
        else:
            authentication.admit(token, Role.READER)
            self._seen[digest] = time.monotonic()
