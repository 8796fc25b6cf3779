"""/healthz and /readyz, for load balancers and watchdogs: not in the contract, no token."""

from flask import Blueprint, Flask, Response

from ccapi.context import Context
from ccapi.http import json_format
from ccapi.http.errors import error_response
from ccapi.service.health import HealthCheck


def create(app: Flask, context: Context) -> None:
    """Serve /healthz and /readyz."""
    blueprint = Blueprint("health", __name__)
    health_check = HealthCheck(context)

    @blueprint.get("/healthz")
    def healthz() -> Response:
        """Answer 200: the process is alive."""
        return _ok({})

    @blueprint.get("/readyz")
    def readyz() -> Response:
        """Answer 200 when database, schema and archive are ready, else 503 with the reasons.

        The service is ready without its replica, but reports it.
        """
        reasons = health_check.reasons()
        if reasons:
            return error_response(503, "; ".join(reasons))
        replica = health_check.replica()
        return _ok({"replica": replica} if replica else {})

    app.register_blueprint(blueprint)


def _ok(details: dict[str, str]) -> Response:
    body = json_format.dumps({"status": "OK", **details})
    return Response(body, content_type=json_format.CONTENT_TYPE)
