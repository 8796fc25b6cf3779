"""What a load balancer and a watchdog ask: outside the contract, and without a token."""

from flask import Blueprint, Flask, Response

from ccapi.api.serializers import answer
from ccapi.context import Context
from ccapi.http import errors
from ccapi.service.health import HealthCheck


def create(app: Flask, context: Context) -> None:
    """Serve /healthz and /readyz."""
    blueprint = Blueprint("health", __name__)
    readiness = HealthCheck(context)

    @blueprint.get("/healthz")
    def healthz() -> Response:
        """Answer, which is all that is asked of the process."""
        return answer({"status": "OK"})

    @blueprint.get("/readyz")
    def readyz() -> Response:
        """Answer 200 when database, schema and archive are ready, else 503 with the reasons.

        A replica is told of where there is one; the primary can do without it.
        """
        reasons = readiness.reasons()
        if reasons:
            return errors.body(503, "; ".join(reasons))
        replica = readiness.replica()
        return answer({"status": "OK"} | ({"replica": replica} if replica else {}))

    app.register_blueprint(blueprint)
