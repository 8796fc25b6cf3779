"""gunicorn and nginx with the files that `ccapi deploy` writes, without systemd and TLS."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from bench.server import Server

_ROOT = Path(__file__).resolve().parent.parent
_READY_TIMEOUT_SECONDS = 60
_POOLS = {"ccapi": "gunicorn.conf.py", "ccapi-readers": "gunicorn-readers.conf.py"}
# What Debian's nginx.conf has around conf.d.
_CONFIG = """
daemon off;
{user}
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 768; }}
http {{
    access_log {directory}/access.log;
    client_body_temp_path {directory}/nginx-body;
    proxy_temp_path {directory}/nginx-proxy;
    fastcgi_temp_path {directory}/nginx-fastcgi;
    uwsgi_temp_path {directory}/nginx-uwsgi;
    scgi_temp_path {directory}/nginx-scgi;
    include {directory}/site.conf;
}}
"""


@dataclass(frozen=True)
class Site:
    """A running site: nginx's socket, its files, and the pools of workers."""

    socket: Path
    directory: Path
    reports: Server
    readers: Server


def nginx() -> str | None:
    """Return the path of nginx; None if it is not installed."""
    return shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/usr/local/sbin")


@contextmanager
def run_site(
    settings: Mapping[str, str],
    *,
    workers: int,
    readers: int,
    options: Sequence[str] = (),
    edits: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Site]:
    """Run a site until the block ends.

    `settings` are CCAPI_* variables, beside the files; `options` are those of `ccapi deploy`.
    `edits` replace text of nginx's file, as an administrator would.
    """
    command = nginx()
    assert command is not None
    with ExitStack() as stack:
        # A short name, because the path of a socket has at most 107 characters.
        directory = Path(tempfile.mkdtemp(prefix="ccapi-site-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        directory.chmod(0o755)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("CCAPI_")}
        environment |= {"CCAPI_CONFIG": str(directory / "settings.toml"), **settings}
        (directory / "settings.toml").touch()
        deploy = [str(Path(sys.executable).with_name("ccapi")), "deploy", str(directory)]
        deploy += ["--server-name", "localhost", "--socket", str(directory / "ccapi.sock")]
        deploy += ["--workers", str(workers), "--readers", str(readers), *options]
        subprocess.run(  # noqa: S603 - a fixed command
            deploy, env=environment, stdout=subprocess.DEVNULL, check=True
        )
        pools = [stack.enter_context(_run_pool(directory, unit, environment)) for unit in _POOLS]
        site = re.sub(
            r" *(listen \[::\]|ssl_certificate).*\n", "", (directory / "nginx.conf").read_text()
        )
        site = site.replace("/var/log/nginx", str(directory))
        site = site.replace("listen 443 ssl;", f"listen unix:{directory}/nginx.sock;")
        site = site.replace("listen 80;", f"listen unix:{directory}/http.sock;")
        for former, text in edits.items():
            assert former in site
            site = site.replace(former, text)
        (directory / "site.conf").write_text(site)
        # As root, nginx's workers would otherwise change their user and could not open the socket.
        user = "user root;" if os.geteuid() == 0 else ""
        (directory / "main.conf").write_text(_CONFIG.format(directory=directory, user=user))
        run = [command, "-e", str(directory / "error.log"), "-c", str(directory / "main.conf")]
        stack.enter_context(_run(run, directory / "nginx.sock", environment))
        yield Site(directory / "nginx.sock", directory, *pools)


@contextmanager
def _run_pool(directory: Path, unit: str, environment: Mapping[str, str]) -> Iterator[Server]:
    """Run gunicorn with its deployed configuration and the environment of its unit."""
    text = (directory / f"{unit}.service").read_text()
    variables = dict(re.findall(r"(?m)^Environment=(CCAPI_(?!CONFIG)\w+)=(.*)$", text))
    path = directory / f"{unit}.sock"
    config = directory / _POOLS[unit]
    command = [sys.executable, "-m", "gunicorn", "--config", str(config), "--bind", f"unix:{path}"]
    with _run(command, path, {**environment, **variables}) as pid:
        yield Server(path, pid)


@contextmanager
def _run(command: list[str], path: Path, environment: Mapping[str, str]) -> Iterator[int]:
    """Run a server until the block ends; yield its process id when its socket accepts."""
    log = path.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - a fixed command
            command, cwd=_ROOT, env=environment, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + _READY_TIMEOUT_SECONDS
        while not _accepts(path):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{command[0]} does not start: {log.read_text('utf-8', 'replace')}")
            time.sleep(0.05)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(_READY_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0
