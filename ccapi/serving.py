"""What gunicorn calls: `gunicorn -c python:ccapi.serving`, or imported by a configuration file.

The workers' counters are shared through a directory that lives as long as gunicorn does.
"""

from pathlib import Path
from typing import Any

from ccapi import multiprocess

control_socket_disable = True
_made: list[Path] = []


def on_starting(server: Any) -> None:
    """Make the directory in which the workers share what they count."""
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
