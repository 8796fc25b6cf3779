"""The smallest Flask application: what the framework alone costs per request."""

import time

from flask import Flask, Response

# gunicorn reads this module as its configuration, too.
control_socket_disable = True
app = Flask(__name__)


@app.route("/", methods=["GET", "POST"])
def empty() -> Response:
    """Send a response as small as that of a start."""
    return Response(b'{"id":12345678}', content_type="application/json")


@app.route("/sleep")
def sleep() -> Response:
    """Send the same response after 1 ms, about the time of a start's statement."""
    time.sleep(0.001)
    return empty()
