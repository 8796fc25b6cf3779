"""The settings: each is declared once, as a field with its rule and default."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Annotated, Any

from ccapi.config.validators import ACCESS, BRIEF, LEVEL, LINE, LOG_FORMAT, PATH, SECONDS, whole
from ccapi.model.cluster import Clusters


@dataclass(frozen=True)
class Server:
    """What a request may be."""

    max_body_bytes: Annotated[int, whole(1024)] = 8 * 2**20


@dataclass(frozen=True)
class Database:
    """How to reach PostgreSQL; times are seconds. `url` holds what `url_file` says, too."""

    url: Annotated[str, LINE] = field(default="postgresql:///ccapi", repr=False)
    url_file: Annotated[Path | None, PATH] = None
    replica_url: Annotated[str | None, LINE] = field(default=None, repr=False)
    replica_url_file: Annotated[Path | None, PATH] = None
    replica_max_lag: Annotated[float, SECONDS] = 10.0
    pool_size: Annotated[int, whole(1)] = 4
    connect_timeout: Annotated[float, SECONDS] = 3.0
    pool_timeout: Annotated[float, SECONDS] = 3.0
    statement_timeout: Annotated[float, SECONDS] = 10.0
    lock_timeout: Annotated[float, SECONDS] = 5.0


@dataclass(frozen=True)
class Archive:
    """Where the job archive is; load() makes the path absolute."""

    root: Annotated[Path, PATH] = Path("var/job-archive")


@dataclass(frozen=True)
class Jobs:
    """What counts as the same job, and for how long (seconds) readers share a list."""

    duplicate_window: Annotated[int, whole(0, 2**31 - 1)] = 60
    list_cache_seconds: Annotated[float, BRIEF] = 1.0


@dataclass(frozen=True)
class Log:
    """What is logged, and how."""

    level: Annotated[str, LEVEL] = "INFO"
    format: Annotated[str, LOG_FORMAT] = "auto"


@dataclass(frozen=True)
class Metrics:
    """Who may read /metrics."""

    access: Annotated[str, ACCESS] = "token"


@dataclass(frozen=True)
class Config:
    """All settings in force.

    `sources` says of each key: default, file or environment; `secret_files` are the files
    from which a password was read.
    """

    server: Server = field(default_factory=Server)
    database: Database = field(default_factory=Database)
    archive: Archive = field(default_factory=Archive)
    jobs: Jobs = field(default_factory=Jobs)
    log: Log = field(default_factory=Log)
    metrics: Metrics = field(default_factory=Metrics)
    clusters: Clusters = field(default_factory=Clusters)
    sources: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    secret_files: tuple[Path, ...] = field(default=(), compare=False, repr=False)


# Settings of which each may be read from a file, and may hold a password.
URLS = ("database.url", "database.replica_url")
# All fields but the last three.
SECTIONS: dict[str, Any] = {f.name: f.type for f in fields_of(Config)[:-3]}
