"""Server hooks and defaults for gunicorn.

Use it as the configuration, `gunicorn -c python:ccapi.gunicorn_hooks`, or import the hooks in a
configuration file. Workers share their metrics in a directory that exists as long as gunicorn, and
the slots for expensive requests.
"""

import json
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from gunicorn import glogging, util
from werkzeug.http import HTTP_STATUS_CODES

from ccapi import config as configuration
from ccapi import logs, prometheus_multiproc
from ccapi.context import MAX_REQUEST_SECONDS
from ccapi.db import slots
from ccapi.errors import StartupError
from ccapi.http import lingering_close

control_socket_disable = True
logger_class = "ccapi.gunicorn_hooks.Log"
timeout = MAX_REQUEST_SECONDS
# Set if gunicorn inherits its sockets, from systemd or from the gunicorn that it replaces.
_INHERITED_SOCKETS = {"LISTEN_FDS", "GUNICORN_FD"}
_ABORTED = "the request took too long; it is unknown whether anything changed, try again"
_MAX_MESSAGE_LENGTH = 500
_directories: list[Path] = []


class Log(glogging.Logger):  # type: ignore[misc] # gunicorn ships no types
    """gunicorn's log in the format of ccapi's, also that of the master."""

    def setup(self, cfg: Any) -> None:
        """Set the format, at the start and at a reload; the workers report wrong settings."""
        super().setup(cfg)
        with suppress(StartupError):
            log = configuration.load().log
            logs.configure(log.level, log.format)


def on_starting(server: Any) -> None:
    """Exit if the address is in use, and create what the workers share.

    Without this, gunicorn retries a busy port for five seconds, and logs eleven lines.
    """
    if not (server.cfg.reuse_port or _INHERITED_SOCKETS & os.environ.keys()):
        for address in server.cfg.address:
            if not isinstance(address, tuple):
                continue
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            try:
                socket.create_server(address, family=family).close()
            except OSError as error:
                reason = str(error.strerror).partition(" (while")[0]
                sys.exit(
                    f"ccapi: cannot listen on {address[0]}:{address[1]}: {reason}; choose another "
                    "address with --bind, or find the program that uses it with `ss -ltnp`"
                )
    util.write_error = write_error
    util.close_graceful = lingering_close.close
    slots.share(lambda: server.cfg.workers * server.cfg.threads)
    _directories.append(prometheus_multiproc.make(server.cfg.uid, server.cfg.gid))


def post_fork(server: Any, worker: Any) -> None:
    """Allocate the memory for a new worker's metrics, before it imports the application."""
    if not prometheus_multiproc.prepare_worker(worker.pid, server.cfg.uid, server.cfg.gid):
        server.log.warning("no memory for metrics: worker %s counts for itself", worker.pid)


def post_request(_worker: Any, request: Any, _environ: Any, _response: Any) -> None:
    """Record whether the connection may be closed at once."""
    lingering_close.record_end(request)


def write_error(connection: socket.socket, status: int, _reason: str, message: str) -> None:
    """Answer a request that reached no application, or whose worker is aborted: as ccapi does."""
    headers = "Connection: close"
    if isinstance(sys.exception(), SystemExit):
        status, message = 503, _ABORTED
        headers += "\r\nRetry-After: 5"
    elif status == 500:
        message = "the server failed; its log has the reason"
    reason = HTTP_STATUS_CODES[status]
    body = json.dumps({"status": reason, "error": (message or reason)[:_MAX_MESSAGE_LENGTH]})
    util.write_nonblock(
        connection,
        f"HTTP/1.1 {status} {reason}\r\n{headers}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nX-Content-Type-Options: nosniff\r\n\r\n{body}".encode(),
    )


def child_exit(server: Any, worker: Any) -> None:
    """Keep the counters of a worker that ended; log an error, because it must not end gunicorn."""
    for directory in _directories:
        try:
            prometheus_multiproc.merge_dead_worker(directory, worker.pid)
        except Exception:
            server.log.exception("the counters of worker %s are lost", worker.pid)


def on_exit(_server: Any) -> None:
    """Remove the directory for metrics."""
    while _directories:
        prometheus_multiproc.remove(_directories.pop())
