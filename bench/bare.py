"""The least that the framework under the service costs: one route that does nothing."""

import time

from flask import Flask, Response

# For gunicorn, to which this module is the configuration, too.
control_socket_disable = True
app = Flask(__name__)


@app.route("/", methods=["GET", "POST"])
def bare() -> Response:
    """Answer as much as a start does."""
    return Response(b'{"id":12345678}', content_type="application/json")


@app.route("/after-a-wait")
def after_a_wait() -> Response:
    """Do the same, after as long a sleep as a start's statement takes."""
    time.sleep(0.001)
    return bare()
