"""The settings: a TOML file and the environment, checked, as one frozen Config."""

from ccapi.config.description import describe
from ccapi.config.loading import load
from ccapi.config.rules import masked
from ccapi.config.sections import Archive, Config, Database, Jobs, Log, Metrics, Server

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
