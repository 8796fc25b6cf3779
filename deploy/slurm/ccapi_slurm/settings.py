"""The settings that the sender shares with the hooks."""

import shlex
from pathlib import Path
from typing import NamedTuple, Optional


class SettingsError(Exception):
    """A setting is missing or wrong; the message says which."""


class Settings(NamedTuple):
    """Where the sender reads and sends; times are seconds.

    `environment` is what scontrol and sacct are run with.
    """

    url: str
    token_file: Path
    spool: Path
    cluster: str
    connect_timeout: float
    timeout: float
    metrics_file: Optional[Path]
    environment: dict[str, str]


_DEFAULTS = {
    "CCAPI_SPOOL": "/var/lib/ccapi-slurm",
    "CCAPI_CONNECT_TIMEOUT": "3",
    "CCAPI_TIMEOUT": "30",
    "CCAPI_METRICS_FILE": "",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "SLURM_CONF": "",
}


def load(path: Path) -> Settings:
    """Read the settings; raises SettingsError."""
    try:
        given = {**_DEFAULTS, "CCAPI_TOKEN_FILE": str(path.parent / "token"), **_read(path)}
        return _settings(given)
    except KeyError as missing:
        raise SettingsError(f"{path}: {missing.args[0]} is missing") from None
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: {error}") from error


def _read(path: Path) -> dict[str, str]:
    """Read NAME=value lines, quoted as in sh."""
    words = shlex.split(path.read_text("utf-8"), comments=True)
    strange = [word for word in words if "=" not in word]
    if strange:
        raise ValueError(f"expected NAME=value, not {strange[0]}")
    return dict(word.split("=", 1) for word in words if word)


def _settings(given: dict[str, str]) -> Settings:
    url = given["CCAPI_URL"].rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"CCAPI_URL must begin with http:// or https://, not {url}")
    if not given["CCAPI_CLUSTER"]:
        raise ValueError("CCAPI_CLUSTER must name the cluster")
    # UTC, because scontrol prints local time without saying which.
    environment = {"PATH": given["PATH"], "TZ": "UTC", "LC_ALL": "C"}
    if given["SLURM_CONF"]:
        environment["SLURM_CONF"] = given["SLURM_CONF"]
    metrics_file = given["CCAPI_METRICS_FILE"]
    return Settings(
        url=url,
        token_file=Path(given["CCAPI_TOKEN_FILE"]),
        spool=Path(given["CCAPI_SPOOL"]),
        cluster=given["CCAPI_CLUSTER"],
        connect_timeout=float(given["CCAPI_CONNECT_TIMEOUT"]),
        timeout=float(given["CCAPI_TIMEOUT"]),
        metrics_file=Path(metrics_file) if metrics_file else None,
        environment=environment,
    )
