"""What nginx in front of gunicorn adds to a request."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from bench import driver, site
from bench.cpu import NUMBERS
from bench.service import get
from bench.site import Site
from bench.table import Row, spread

_ROUNDS = 5
_REQUESTS = 300
_READY_SECONDS = 10
# What deploy/nginx.conf.j2 says of a request, without TLS, which the load's driver cannot.
_CONF = """
daemon off;
{user}
pid {directory}/nginx.pid;
error_log {directory}/nginx.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/nginx-body;
    proxy_temp_path {directory}/nginx-proxy;
    fastcgi_temp_path {directory}/nginx-fastcgi;
    uwsgi_temp_path {directory}/nginx-uwsgi;
    scgi_temp_path {directory}/nginx-scgi;
    server {{
        listen unix:{socket};
        location / {{
            proxy_pass http://unix:{service};
            proxy_buffering off;
        }}
    }}
}}
"""


def rows(running: Site) -> Iterator[Row]:
    """Compare starts and lists by way of nginx with those on gunicorn's own socket."""
    command = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/usr/local/sbin")
    if command is None:
        print("nginx is not installed: nothing is measured behind it")
        return
    small = running.small
    requests = {
        "start_job": site.start_job(small.admin),
        "list of 25 jobs": get("/api/jobs/", small.admin),
    }
    with _nginx(command, running.directory, small.service.socket) as socket:
        for name, request in requests.items():
            direct, behind = [], []
            for _ in range(_ROUNDS):
                direct.append(_wait(small.socket, request))
                behind.append(_wait(str(socket), request))
            yield Row(
                what=f"{name} behind nginx / on gunicorn's socket: p50",
                measured=median(behind) / median(direct),
                bar=1.3,
                details=f"ms: behind {spread(behind, 1e3, 2)}, direct {spread(direct, 1e3, 2)}",
            )


def _wait(socket: str, request: str) -> float:
    first = NUMBERS.take(_REQUESTS)
    order = driver.Order(socket=socket, request=request, first=first, count=_REQUESTS)
    result = driver.run(order)
    result.require(200, 201)
    return result.p50


@contextmanager
def _nginx(command: str, directory: Path, service: Path) -> Iterator[Path]:
    """Run nginx in front of a service's socket; yields its own."""
    socket, conf = directory / "nginx.sock", directory / "nginx.conf"
    socket.unlink(missing_ok=True)
    # The worker is to reach a socket below a directory of root's.
    user = "user root;" if os.geteuid() == 0 else ""
    facts = {"directory": directory, "socket": socket, "service": service, "user": user}
    conf.write_text(_CONF.format(**facts), "utf-8")
    process = subprocess.Popen([command, "-c", str(conf)])  # noqa: S603 - the command is ours
    try:
        deadline = time.monotonic() + _READY_SECONDS
        while not socket.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        yield socket
    finally:
        process.terminate()
        process.wait(_READY_SECONDS)
