"""The settings in ccapi.conf, which sender and hooks share."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Optional
from urllib.parse import urlsplit


class SettingsError(Exception):
    """A setting is missing or invalid; the message says which."""


class Settings(NamedTuple):
    """The sender's settings; timeouts are seconds.

    `environment` is the environment of scontrol and sacct.
    """

    url: str
    token_file: Path
    spool: Path
    slurm_state: Optional[Path]
    cluster: str
    connect_timeout: float
    timeout: float
    metrics_file: Optional[Path]
    environment: dict[str, str]


DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DEFAULTS = {
    "CCAPI_SPOOL": "/var/lib/ccapi-slurm",
    "CCAPI_SLURM_STATE": "",
    "CCAPI_CONNECT_TIMEOUT": "3",
    "CCAPI_TIMEOUT": "30",
    "CCAPI_METRICS_FILE": "",
    "PATH": DEFAULT_PATH,
    "SLURM_CONF": "",
}


def load(path: Path) -> Settings:
    """Read the settings from NAME=value lines, quoted as in sh; raises SettingsError."""
    try:
        words = shlex.split(path.read_text("utf-8"), comments=True)
        for word in words:
            if "=" not in word:
                raise ValueError(f"expected NAME=value, not {word}")
        defaults = {**_DEFAULTS, "CCAPI_TOKEN_FILE": str(path.parent / "token")}
        return _settings({**defaults, **dict(word.split("=", 1) for word in words)})
    except KeyError as missing:
        raise SettingsError(f"{path}: {missing.args[0]} is missing") from None
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: {error}") from error


def warnings(settings: Settings) -> Iterator[str]:
    """Yield how others may come to know the token."""
    url = urlsplit(settings.url)
    host = url.hostname or ""
    if url.scheme == "http" and host not in {"localhost", "::1"} and not host.startswith("127."):
        yield f"CCAPI_URL is {settings.url}: the network can read the token; use https://"
    try:
        mode = settings.token_file.stat().st_mode & 0o777
    except OSError:
        return
    if mode & 0o007:
        path = settings.token_file
        yield f"other users can access the token: {path} has mode {mode:o}; run chmod 600 {path}"


def _settings(values: dict[str, str]) -> Settings:
    """Check and convert the values; raises KeyError and ValueError."""
    url = values["CCAPI_URL"].rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"CCAPI_URL must begin with http:// or https://, not {url}")
    if not values["CCAPI_CLUSTER"]:
        raise ValueError("CCAPI_CLUSTER must name the cluster")
    # UTC, because scontrol prints local time without its zone.
    environment = {"PATH": values["PATH"], "TZ": "UTC", "LC_ALL": "C"}
    if values["SLURM_CONF"]:
        environment["SLURM_CONF"] = values["SLURM_CONF"]
    metrics_file = values["CCAPI_METRICS_FILE"]
    return Settings(
        url=url,
        token_file=Path(values["CCAPI_TOKEN_FILE"]),
        spool=Path(values["CCAPI_SPOOL"]),
        slurm_state=Path(values["CCAPI_SLURM_STATE"]) if values["CCAPI_SLURM_STATE"] else None,
        cluster=values["CCAPI_CLUSTER"],
        connect_timeout=float(values["CCAPI_CONNECT_TIMEOUT"]),
        timeout=float(values["CCAPI_TIMEOUT"]),
        metrics_file=Path(metrics_file) if metrics_file else None,
        environment=environment,
    )
