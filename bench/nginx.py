"""Latency that nginx adds in front of gunicorn."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from bench import load_generator
from bench.http_requests import JOB_NUMBERS, get, start_job
from bench.load_generator import LoadSpec
from bench.report import Row, spread
from bench.testbed import Testbed

_ROUNDS = 5
_REQUESTS = 300
_READY_TIMEOUT_SECONDS = 10
# Handles a request as deploy/nginx.conf.j2 does, but without TLS.
_CONFIG = """
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
            proxy_pass http://unix:{upstream};
            proxy_buffering off;
        }}
    }}
}}
"""


def overhead(testbed: Testbed) -> Iterator[Row]:
    """Compare starts and lists through nginx with those on gunicorn's own socket."""
    command = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/usr/local/sbin")
    if command is None:
        print("nginx is not installed; its overhead is not measured")
        return
    small = testbed.small
    requests = {
        "start_job": start_job(small.admin_token),
        "list of 25 jobs": get("/api/jobs/", small.admin_token),
    }
    with _run_nginx(command, testbed.directory, small.server.socket) as socket:
        for name, request in requests.items():
            direct, proxied = [], []
            for _ in range(_ROUNDS):
                direct.append(_median_latency(small.socket, request))
                proxied.append(_median_latency(str(socket), request))
            yield Row(
                what=f"{name} through nginx / on gunicorn's socket: p50",
                measured=median(proxied) / median(direct),
                bar=1.3,
                details=f"ms: nginx {spread(proxied, 1e3, 2)}, direct {spread(direct, 1e3, 2)}",
            )


def _median_latency(socket: str, request: str) -> float:
    first = JOB_NUMBERS.reserve(_REQUESTS)
    result = load_generator.run(
        LoadSpec(socket=socket, request=request, first_number=first, count=_REQUESTS)
    )
    result.require_status(200, 201)
    return result.p50


@contextmanager
def _run_nginx(command: str, directory: Path, upstream: Path) -> Iterator[Path]:
    """Run nginx in front of a Unix socket until the block ends; yields nginx's socket."""
    socket, config = directory / "nginx.sock", directory / "nginx.conf"
    socket.unlink(missing_ok=True)
    # As root, nginx's workers would otherwise change their user and could not open the socket.
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(
        _CONFIG.format(directory=directory, socket=socket, upstream=upstream, user=user), "utf-8"
    )
    process = subprocess.Popen([command, "-c", str(config)])  # noqa: S603 - a fixed command
    try:
        deadline = time.monotonic() + _READY_TIMEOUT_SECONDS
        while not socket.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        yield socket
    finally:
        process.terminate()
        process.wait(_READY_TIMEOUT_SECONDS)
