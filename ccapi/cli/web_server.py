"""The web server of `ccapi demo`: gunicorn as a child process."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Self

import ccapi
from ccapi.cli.params import Address
from ccapi.embedded.account import Account
from ccapi.errors import StartupError

# Half of them may answer long lists and large statistics at a time.
_WORKERS = 4
_BACKLOG = 128
_START_TIMEOUT_SECONDS = 60
_POLL_SECONDS = 0.05
_SHUTDOWN = ((signal.SIGTERM, 5), (signal.SIGQUIT, 5), (signal.SIGKILL, 5))


def listen(address: Address) -> socket.socket:
    """Return a listening socket; raises StartupError."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server(address, family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        raise StartupError(
            f"cannot listen on {address}: {reason}; choose another address, "
            "e.g. --bind 127.0.0.1:0 for any free port"
        ) from error


class WebServer:
    """gunicorn on a listening socket, from the beginning to the end of a `with` block.

    It also ends with this process.
    """

    def __init__(self, listener: socket.socket, config_file: Path) -> None:
        self._descriptor = listener.fileno()
        self._environment = {**os.environ, "CCAPI_CONFIG": str(config_file)}

    def __enter__(self) -> Self:
        """Start gunicorn."""
        options = {
            "bind": f"fd://{self._descriptor}",
            "workers": _WORKERS,
            "worker-class": "sync",
            "config": "python:ccapi.gunicorn_hooks",
            "log-level": "warning",
            "pythonpath": Path(ccapi.__file__).parent.parent,
        }
        command = Account("", os.geteuid(), os.getegid()).command(
            Path(sys.executable),
            *("-P", "-m", "gunicorn"),
            *(f"--{name}={value}" for name, value in options.items()),
            "ccapi.app:application()",
        )
        self._process = subprocess.Popen(  # noqa: S603 - the arguments are ours
            command,
            cwd="/",  # without a gunicorn.conf.py of the user
            env=self._environment,
            pass_fds=[self._descriptor],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C goes to this process, which stops gunicorn
        )
        return self

    def __exit__(self, *_: object) -> None:
        """Stop gunicorn."""
        for number, seconds in _SHUTDOWN:
            self._process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
                break
        with suppress(ProcessLookupError):  # workers outlive a killed master for minutes
            os.killpg(self._process.pid, signal.SIGKILL)

    def await_answer(self, address: Address) -> None:
        """Return when the service answers; raises StartupError if it does not."""
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            connection = HTTPConnection(*address, timeout=_START_TIMEOUT_SECONDS)
            try:
                connection.request("GET", "/api/openapi.json")
                if connection.getresponse().status == 200:
                    return
            except (OSError, HTTPException):
                pass
            finally:
                connection.close()
            if self._process.poll() is not None:
                raise StartupError("the web server does not start; the lines above say why")
            time.sleep(_POLL_SECONDS)
        raise StartupError(f"the service does not answer on {address}")

    def wait(self) -> int:
        """Wait for gunicorn to end, and return its exit status."""
        return self._process.wait()
