"""/metrics, for Prometheus: not in the contract, and by default with a token only."""

import math
import time
from functools import partial

from flask import Blueprint, Flask, Response, current_app, request

from ccapi import metrics
from ccapi.context import Context
from ccapi.db.probe import CachedProbe
from ccapi.errors import DatabaseUnavailable, Forbidden
from ccapi.http import auth
from ccapi.http.cache import Caches
from ccapi.model.token import Role
from ccapi.service import tokens
from ccapi.service.metrics import DatabaseGauges

_TIMEOUT_SECONDS = 2
_GRACE_SECONDS = 3600


def create(app: Flask, context: Context, *, open_to_all: bool) -> None:
    """Serve /metrics, to everybody or to tokens of any role."""
    blueprint = Blueprint("metrics", __name__)
    gauges = DatabaseGauges(context)

    def read() -> Response:
        """Answer the metrics in Prometheus' text format."""
        return Response(metrics.expose(gauges.collect()), content_type=metrics.CONTENT_TYPE)

    if not open_to_all:
        blueprint.before_request(_TokenCheck(context).require_token)
    blueprint.add_url_rule("/metrics", "metrics", read)
    app.register_blueprint(blueprint)


class _TokenCheck:
    """Requires a token; while the database is down, one that was valid within the hour.

    The metrics matter most while the database is down.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._valid_at: dict[bytes, float] = {}

    def require_token(self) -> None:
        """Accept any valid token.

        Raises Unauthenticated, Forbidden, TooManyRequests, DatabaseUnavailable.
        """
        caches: Caches = current_app.extensions["ccapi_caches"]
        secret = auth.read_secret(request.environ)
        key = auth.cache_key(secret)
        caches.unknown_tokens.require_allowed(key)
        probe = CachedProbe(
            partial(tokens.authenticate, self._context.database, secret), ttl_seconds=0
        )
        try:
            token = probe.result(_TIMEOUT_SECONDS)
        except (DatabaseUnavailable, TimeoutError) as error:
            if time.monotonic() - self._valid_at.get(key, -math.inf) > _GRACE_SECONDS:
                message = str(error) or "looking up the token timed out"
                raise DatabaseUnavailable(message) from error
        else:
            caches.unknown_tokens.record(key, is_valid=token is not None)
            token = auth.require_valid(token)
            if token.scope.is_limited:
                raise Forbidden("a token that is limited to some jobs cannot read metrics")
            auth.authorize(token, list(Role))
            self._valid_at[key] = time.monotonic()
