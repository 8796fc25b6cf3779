"""The settings: loaded from a TOML file and the environment, validated, as one frozen Config."""

from ccapi.config.database_url import mask
from ccapi.config.dump import to_toml
from ccapi.config.loading import load
from ccapi.config.settings import Archive, Config, Database, Jobs, Limits, Log, Metrics, Server

__all__ = [
    "Archive",
    "Config",
    "Database",
    "Jobs",
    "Limits",
    "Log",
    "Metrics",
    "Server",
    "load",
    "mask",
    "to_toml",
]
