"""`ccapi deploy`: the files that a site's service runs from, filled in."""

import ipaddress
import math
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from jinja2 import Environment, FileSystemLoader, StrictUndefined

import ccapi
from ccapi.cli.settings import Settings, uses_settings
from ccapi.config import Config
from ccapi.context import MAX_REQUEST_SECONDS
from ccapi.errors import StartupError

Command = TypeVar("Command", bound=Callable[..., Any])
_SUFFIX = ".j2"
_PARTS = {"hardening"}  # of other files
_OF_DATABASE_HOST = {"database-url", "database-host.sql"}
_SECRET = _OF_DATABASE_HOST
_HTTPS, _HTTP = 443, 80
_LARGEST_PORT = 65_535
# Seconds by which each waits longer than what it waits for.
_MARGIN = 10
_GRACEFUL = 30

_NEXT = """\
wrote {files} to {directory}

Read them and change what you like. Then, as root:

sh {directory}/install.sh    puts them into their places, and starts nothing
ccapi migrate                once there is a database
ccapi check                  says what is missing
systemctl enable --now ccapi.socket ccapi.service ccapi-archive-retry.timer
systemctl reload nginx       once the certificate is in its place"""


class Name(click.ParamType[str]):
    """A text that stands in other programs' files as it is: nothing there has a meaning."""

    def __init__(self, name: str, pattern: str) -> None:
        self.name = name
        self._pattern = pattern

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Check the option's text."""
        if not re.fullmatch(self._pattern, value):
            self.fail(f"{value!r} is no {self.name}", param, ctx)
        return str(value)


class Host(Name):
    """A host's name, or its address."""

    def __init__(self) -> None:
        super().__init__("host name", r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Check the option's text; an IPv6 address is put in brackets."""
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            return super().convert(value, param, ctx)
        return f"[{address}]" if address.version == 6 else str(address)


_PATH = Name("absolute path of letters, digits and / . _ + -", r"(/[A-Za-z0-9._+-]+)+")
_ACCOUNT = Name("name of a user or group", r"[A-Za-z_][A-Za-z0-9_-]{0,31}")
_PORT = click.IntRange(1, _LARGEST_PORT)


def _path(name: str, default: str, text: str) -> Callable[[Command], Command]:
    return click.option(name, type=_PATH, default=default, show_default=True, help=text)


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--server-name", type=Host(), required=True, help="The name that clients use.")
@click.option(
    "--database-host",
    type=Host(),
    help="Where PostgreSQL is, unless on this machine; also writes what is to be done there.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 1000),
    default=2 * (os.cpu_count() or 1),
    show_default="2 for each processor",
    help="Processes that answer.",
)
@_path("--prefix", "/opt/ccapi", "Where the package is installed.")
@_path("--config-dir", "/etc/ccapi", "Where the settings will be.")
@_path("--archive", "/var/lib/ccapi/job-archive", "The job archive.")
@_path("--socket", "/run/ccapi.sock", "Between nginx and the service.")
@_path("--certificate", "/etc/ccapi/tls/certificate.pem", "For TLS, with its chain.")
@_path("--certificate-key", "/etc/ccapi/tls/key.pem", "The certificate's key.")
@click.option("--user", type=_ACCOUNT, default="ccapi", show_default=True, help="Runs the service.")
@click.option(
    "--nginx-group",
    type=_ACCOUNT,
    default="www-data",
    show_default=True,
    help="Whose members may connect to the socket; nginx on Red Hat.",
)
@click.option("--https-port", type=_PORT, default=_HTTPS, show_default=True)
@click.option("--http-port", type=_PORT, default=_HTTP, show_default=True)
@click.option("--force", is_flag=True, help="Replace files that are there.")
@uses_settings
def deploy(settings: Settings, /, directory: Path, *, force: bool, **options: Any) -> None:
    """Write the files for gunicorn, nginx, systemd and the journal, ready to review.

    Time-outs and limits fit together, and follow the settings in force (`ccapi --config`).
    Nothing is installed.
    """
    files = dict(render(options | derived(settings.config, options)))
    there = [name for name in files if (directory / name).exists()]
    if there and not force:
        raise StartupError(
            f"{directory} has {', '.join(there)} already: choose another directory, "
            "or replace them with --force"
        )
    try:
        _write(directory, files)
    except OSError as error:
        raise StartupError(f"cannot write {error.filename}: {error.strerror}") from error
    click.echo(_NEXT.format(files=", ".join(files), directory=directory))


def derived(config: Config, options: Mapping[str, Any]) -> dict[str, Any]:
    """Compute what follows from settings and options; time-outs are seconds."""
    database = config.database
    timeout = max(math.ceil(database.statement_timeout) + _MARGIN, MAX_REQUEST_SECONDS)
    port = options["https_port"]
    return {
        "max_body_bytes": config.server.max_body_bytes,
        "pool_size": database.pool_size,
        # Besides the pools: commands, and twice as many workers during a reload.
        "connections": 2 * options["workers"] * database.pool_size + 5,
        "timeout": timeout,
        "read_timeout": timeout + _MARGIN,
        "graceful_timeout": _GRACEFUL,
        "stop_timeout": _GRACEFUL + _MARGIN,
        "https_suffix": "" if port == _HTTPS else f":{port}",
        "password": secrets.token_urlsafe(24),
    }


def templates() -> Path:
    """Find deploy/: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(ccapi.__file__).resolve().parent
    installed = package / "deploy"
    return installed if installed.is_dir() else package.parent / "deploy"


def render(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Fill in the templates that the values ask for: name of the file, text."""
    environment = Environment(  # noqa: S701 - no HTML; the options' types let no syntax through
        loader=FileSystemLoader(templates()),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    left_out = _PARTS if values["database_host"] else _PARTS | _OF_DATABASE_HOST
    for template in environment.list_templates(extensions=[_SUFFIX[1:]]):
        name = template.removesuffix(_SUFFIX)
        if name not in left_out:
            yield name, environment.get_template(template).render(values)


def _write(directory: Path, files: Mapping[str, str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = directory / name
        path.unlink(missing_ok=True)
        mode = 0o600 if name in _SECRET else 0o644
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
            file.write(text)
