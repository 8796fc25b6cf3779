"""The settings: a TOML file and the environment, checked, as one frozen Config."""

from ccapi.config.dump import describe
from ccapi.config.loading import load
from ccapi.config.settings import Archive, Config, Database, Jobs, Log, Metrics, Server
from ccapi.config.validators import masked

__all__ = [
    "Archive",
    "Config",
    "Database",
    "Jobs",
    "Log",
    "Metrics",
    "Server",
    "describe",
    "load",
    "masked",
]
