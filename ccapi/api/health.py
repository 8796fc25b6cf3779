"""What a load balancer and a watchdog ask: outside the contract, and without a token."""

from flask import Blueprint, Flask, Response

from ccapi.api import errors
from ccapi.api.representation import answer
from ccapi.api.state import registry
from ccapi.service.readiness import Readiness


def create(app: Flask) -> None:
    """Serve /healthz and /readyz."""
    blueprint = Blueprint("health", __name__)
    readiness = Readiness(lambda: registry(app))

    @blueprint.get("/healthz")
    def healthz() -> Response:
        """Answer, which is all that is asked of the process."""
        return answer({"status": "OK"})

    @blueprint.get("/readyz")
    def readyz() -> Response:
        """Answer 200 when database, schema and archive are ready, else 503 with the reasons."""
        reasons = readiness.reasons()
        return errors.body(503, "; ".join(reasons)) if reasons else answer({"status": "OK"})

    app.register_blueprint(blueprint)
