"""`ccapi deploy`: configuration files for gunicorn, nginx, systemd and PostgreSQL."""

import hashlib
import ipaddress
import math
import os
import re
import secrets
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from jinja2 import Environment, FileSystemLoader, StrictUndefined

import ccapi
from ccapi.cli.params import MAX_PORT, AddressParam
from ccapi.cli.settings import Settings, uses_settings
from ccapi.config import Config
from ccapi.context import MAX_REQUEST_SECONDS
from ccapi.errors import StartupError

Command = TypeVar("Command", bound=Callable[..., Any])
_SUFFIX = ".j2"
_INCLUDED = {"hardening", "service", "socket", "gunicorn"}  # in other templates
_CHECKSUMS = "SHA256SUMS"
# These contain the password.
_FOR_DATABASE_HOST = {"database-url", "database-host.sql"}
_HTTPS_PORT, _HTTP_PORT = 443, 80
# The difference between a timeout and that of the program that waits.
_MARGIN_SECONDS = 10
_GRACEFUL_TIMEOUT_SECONDS = 30
# Linux cuts the path of a socket; that of the readers is the longer one.
_MAX_SOCKET_PATH = 107

_NEXT = """\
wrote {files} to {directory}

Read and change them as you like. Then, as root:

sh {directory}/install.sh    installs them, and starts nothing
ccapi migrate                when the database exists
ccapi check                  reports what is missing
systemctl enable --now ccapi.socket ccapi.service ccapi-archive-retry.timer ccapi-rollup.timer
systemctl reload nginx       when the certificate is installed"""


class Name(click.ParamType[str]):
    """A text without characters that are special in the files of other programs."""

    def __init__(self, name: str, pattern: str, allowed: str) -> None:
        self.name = name
        self._pattern = pattern
        self._allowed = allowed

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Validate the text of an option."""
        if not re.fullmatch(self._pattern, value):
            self.fail(f"invalid {self.name} {value!r} (use {self._allowed})", param, ctx)
        return str(value)


class Host(Name):
    """A host's name or address."""

    def __init__(self) -> None:
        pattern = r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?"
        super().__init__("host name", pattern, "letters, digits, . and -, or an address")

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Validate the text of an option, and put brackets around an IPv6 address."""
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            return super().convert(value, param, ctx)
        return f"[{address}]" if address.version == 6 else str(address)


_PATH = Name("path", r"(/[A-Za-z0-9._+-]+)+", "an absolute path of letters, digits and / . _ + -")
_ACCOUNT = Name("name", r"[A-Za-z_][A-Za-z0-9_-]{0,31}", "letters, digits, _ and -")
_PORT = click.IntRange(1, MAX_PORT)


def _path(name: str, default: str, text: str) -> Callable[[Command], Command]:
    return click.option(name, type=_PATH, default=default, show_default=True, help=text)


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--server-name", type=Host(), required=True, help="The name that clients use.")
@click.option(
    "--database-host",
    type=Host(),
    help="PostgreSQL's host, unless it is this one; adds two files for that host.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 1000),
    default=2 * (os.cpu_count() or 1),
    show_default="2 for each processor",
    help="Worker processes for reports: starts, stops and edits.",
)
@click.option(
    "--readers",
    type=click.IntRange(1, 1000),
    default=2 * (os.cpu_count() or 1),
    show_default="2 for each processor",
    help="Worker processes for readers: lists, statistics and pages.",
)
@_path("--prefix", "/opt/ccapi", "Directory of the installed package.")
@_path("--config-dir", "/etc/ccapi", "Directory of the settings.")
@_path("--archive", "/var/lib/ccapi/job-archive", "Directory of the job archive.")
@_path("--socket", "/run/ccapi.sock", "Unix socket for reports; that for readers is beside it.")
@_path("--certificate", "/etc/ccapi/tls/certificate.pem", "TLS certificate with its chain.")
@_path("--certificate-key", "/etc/ccapi/tls/key.pem", "Key of the certificate.")
@click.option(
    "--user", type=_ACCOUNT, default="ccapi", show_default=True, help="User of the service."
)
@click.option(
    "--nginx-group",
    type=_ACCOUNT,
    default="www-data",
    show_default=True,
    help="Group that may connect to the socket; on Red Hat it is nginx.",
)
@click.option("--https-port", type=_PORT, default=_HTTPS_PORT, show_default=True)
@click.option("--http-port", type=_PORT, default=_HTTP_PORT, show_default=True)
@click.option(
    "--login-proxy",
    type=AddressParam(),
    metavar="HOST:PORT",
    help="An oauth2-proxy at which people log in; [web] user_header must be set.",
)
@click.option("--force", is_flag=True, help="Replace existing files.")
@uses_settings
def deploy(settings: Settings, /, directory: Path, *, force: bool, **options: Any) -> None:
    """Write configuration for gunicorn, nginx, systemd and the journal to DIRECTORY.

    Timeouts and limits match each other and the settings in force (`ccapi --config`). The
    command installs nothing.
    """
    if options["login_proxy"] and not settings.config.web.user_header:
        raise StartupError("--login-proxy needs user_header, in the section [web] of the settings")
    values = options | derive(settings.config, options)
    if len(values["readers_socket"]) > _MAX_SOCKET_PATH:
        raise StartupError(
            f"--socket: expected a path of at most {_MAX_SOCKET_PATH - 8} characters"
        )
    values["given_options"] = " ".join(given_options(click.get_current_context()))
    files = dict(render(values))
    existing = [name for name in files if (directory / name).exists()]
    if existing and not force:
        raise StartupError(
            f"{directory} already has {', '.join(existing)}: choose another directory, "
            "or replace them with --force"
        )
    for name in write_files(directory, files):
        click.echo(f"replaced {name}, which had been changed: that version is {name}.old")
    click.echo(_NEXT.format(files=", ".join(files), directory=directory))


def given_options(context: click.Context) -> Iterator[str]:
    """Yield the options of the command line, without --force."""
    for option in context.command.params:
        name = option.name or ""
        is_given = context.get_parameter_source(name) == ParameterSource.COMMANDLINE
        if is_given and isinstance(option, click.Option) and not option.is_flag:
            yield f"{option.opts[0]} {shlex.quote(str(context.params[name]))}"


def write_files(directory: Path, files: Mapping[str, str]) -> Iterator[str]:
    """Write files and their checksums; yield those that had been changed, after a copy of each.

    Raises StartupError.
    """
    sums = {
        name: hashlib.sha256(text.encode()).hexdigest()
        for name, text in files.items()
        if name not in _FOR_DATABASE_HOST
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        former = directory / _CHECKSUMS
        former_sums = former.read_text() if former.exists() else ""
        listing = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
        for name, text in {**files, _CHECKSUMS: listing}.items():
            path = directory / name
            if name != _CHECKSUMS and path.exists():
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                if digest != sums.get(name) and f"{digest}  {name}\n" not in former_sums:
                    path.replace(f"{path}.old")
                    yield name
            path.unlink(missing_ok=True)
            mode = 0o600 if name in _FOR_DATABASE_HOST else 0o644
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
    except OSError as error:
        raise StartupError(f"cannot write {error.filename}: {error.strerror}") from error


def derive(config: Config, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that follow from settings and options; timeouts are in seconds."""
    database = config.database
    timeout = max(math.ceil(database.statement_timeout) + _MARGIN_SECONDS, MAX_REQUEST_SECONDS)
    port = options["https_port"]
    socket = Path(options["socket"])
    return {
        "readers_socket": str(socket.with_name(f"{socket.stem}-readers{socket.suffix}")),
        "max_body_bytes": config.server.max_body_bytes,
        "concurrent_requests": config.limits.concurrent_requests,
        "pool_size": database.pool_size,
        # For twice as many workers during a reload, and for commands.
        "connections": 2 * (options["workers"] + options["readers"]) * database.pool_size + 5,
        "timeout": timeout,
        "read_timeout": timeout + _MARGIN_SECONDS,
        "graceful_timeout": _GRACEFUL_TIMEOUT_SECONDS,
        "stop_timeout": _GRACEFUL_TIMEOUT_SECONDS + _MARGIN_SECONDS,
        "https_suffix": "" if port == _HTTPS_PORT else f":{port}",
        "user_header": config.web.user_header,
        "groups_header": config.web.groups_header,
        "password": secrets.token_urlsafe(24),
    }


def templates() -> Path:
    """Return deploy/: in the package if it is installed, else beside it in the checkout."""
    package = Path(ccapi.__file__).resolve().parent
    installed = package / "deploy"
    return installed if installed.is_dir() else package.parent / "deploy"


def render(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each file."""
    environment = Environment(  # noqa: S701 - not HTML; the types of the options allow no syntax
        loader=FileSystemLoader(templates()),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    omitted = _INCLUDED if values["database_host"] else _INCLUDED | _FOR_DATABASE_HOST
    for template in environment.list_templates(extensions=[_SUFFIX[1:]]):
        name = template.removesuffix(_SUFFIX)
        if name not in omitted:
            yield name, environment.get_template(template).render(values)
