"""What gunicorn calls: `gunicorn -c python:ccapi.gunicorn_hooks`, or imported by a configuration file.

The workers' counters are shared through a directory that lives as long as gunicorn does.
"""

import os
import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ccapi import prometheus_multiproc as multiprocess
from ccapi.context import MAX_REQUEST_SECONDS

control_socket_disable = True
timeout = MAX_REQUEST_SECONDS
# Listening sockets of systemd, or of the gunicorn that this one replaces.
_HANDED_OVER = {"LISTEN_FDS", "GUNICORN_FD"}
_made: list[Path] = []


def on_starting(server: Any) -> None:
    """Refuse a busy port, and make the directory in which the workers share what they count."""
    if not (server.cfg.reuse_port or _HANDED_OVER & os.environ.keys()):
        _require_free(server.cfg.address)
    _made.append(multiprocess.make(server.cfg.uid, server.cfg.gid))


def child_exit(server: Any, worker: Any) -> None:
    """Keep what a worker counted that has ended; a failure must not end gunicorn."""
    for directory in _made:
        try:
            multiprocess.fold(directory, worker.pid)
        except Exception:
            server.log.exception("what worker %s counted is lost", worker.pid)


def on_exit(_server: Any) -> None:
    """Take the directory away."""
    while _made:
        multiprocess.remove(_made.pop())


def _require_free(addresses: Iterable[object]) -> None:
    """Say once what gunicorn would try for five seconds, and tell in eleven lines."""
    for address in addresses:
        if isinstance(address, tuple):
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            try:
                socket.create_server(address, family=family).close()
            except OSError as error:
                reason = str(error.strerror).partition(" (while")[0]
                sys.exit(
                    f"ccapi: cannot listen on {address[0]}:{address[1]}: {reason}; choose another "
                    "address with --bind, or see with `ss -ltnp` who has it"
                )
