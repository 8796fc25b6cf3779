"""The settings.

A setting is declared once, as `name: Annotated[type, rule] = default`. schema.py collects the
rules of validators.py from here, loading.py the defaults.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Annotated, Any

from ccapi.config.validators import (
    ARCHIVE_VERSION,
    BOOLEAN,
    DATABASE_URL,
    HEADER,
    LINKS,
    NAMES,
    NETWORKS,
    NO_LINKS,
    NO_NAMES,
    NO_NETWORKS,
    PATH,
    SHARE,
    TIMEOUT,
    Links,
    Names,
    Networks,
    integer,
    one_of,
    seconds,
)
from ccapi.model.cluster import Clusters


@dataclass(frozen=True)
class Server:
    """Limits of a request."""

    max_body_bytes: Annotated[int, integer(1024, 2**30)] = 8 * 2**20
    used_nodes_open_to: Annotated[Networks, NETWORKS] = NO_NETWORKS
    unknown_fields: Annotated[str, one_of("ignore", "refuse")] = "ignore"


@dataclass(frozen=True)
class Database:
    """How to reach PostgreSQL; times are seconds. `url` has the content of `url_file`, too."""

    url: Annotated[str, DATABASE_URL] = field(default="postgresql:///ccapi", repr=False)
    url_file: Annotated[Path | None, PATH] = None
    replica_url: Annotated[str | None, DATABASE_URL] = field(default=None, repr=False)
    replica_url_file: Annotated[Path | None, PATH] = None
    replica_max_lag: Annotated[float, TIMEOUT] = 10.0
    pool_size: Annotated[int, integer(1, 10_000)] = 4
    connect_timeout: Annotated[float, TIMEOUT] = 3.0
    pool_timeout: Annotated[float, TIMEOUT] = 3.0
    statement_timeout: Annotated[float, TIMEOUT] = 10.0
    lock_timeout: Annotated[float, TIMEOUT] = 5.0
    site: Annotated[int, integer(0, 999)] = 0
    hub: Annotated[bool, BOOLEAN] = False

    @property
    def site_number(self) -> int | None:
        """Return the number among the sites of a hub, 0 for the hub, None without one."""
        return 0 if self.hub else self.site or None


@dataclass(frozen=True)
class Archive:
    """Where the job archive is, its version, and its timeout in seconds.

    load() makes the path absolute.
    """

    root: Annotated[Path, PATH] = Path("var/job-archive")
    version: Annotated[int, ARCHIVE_VERSION] = 3
    timeout: Annotated[float, TIMEOUT] = 5.0


@dataclass(frozen=True)
class Jobs:
    """When two starts are the same job, and how long a list is cached for readers; in seconds."""

    duplicate_window: Annotated[int, integer(0, 2**31 - 1)] = 60
    list_cache_seconds: Annotated[float, seconds(0, 60)] = 1.0


@dataclass(frozen=True)
class Limits:
    """What a reader may use of the service; the rate is bytes a second."""

    expensive_share: Annotated[float, SHARE] = 0.5
    min_send_rate: Annotated[int, integer(min=1)] = 50_000
    database_seconds: Annotated[float, seconds(0.001, 1_000_000)] = 120.0
    concurrent_requests: Annotated[int, integer(1, 10_000)] = 16


@dataclass(frozen=True)
class Log:
    """The level and format of the log."""

    level: Annotated[str, one_of("DEBUG", "INFO", "WARNING", "ERROR")] = "INFO"
    format: Annotated[str, one_of("auto", "json", "text")] = "auto"


@dataclass(frozen=True)
class Metrics:
    """Access to /metrics."""

    access: Annotated[str, one_of("token", "open", "off")] = "token"


@dataclass(frozen=True)
class Web:
    """The pages, and the proxy that authenticates their visitors."""

    enabled: Annotated[bool, BOOLEAN] = True
    user_header: Annotated[str, HEADER] = ""
    groups_header: Annotated[str, HEADER] = ""
    proxy_addresses: Annotated[Networks, NETWORKS] = NO_NETWORKS
    admin_groups: Annotated[Names, NAMES] = NO_NAMES
    reader_groups: Annotated[Names, NAMES] = NO_NAMES
    job_links: Annotated[Links, LINKS] = NO_LINKS


@dataclass(frozen=True)
class Config:
    """All settings in force.

    `sources` maps each key to its source: default, file or environment. `secret_files` are the
    files from which a password was read.
    """

    server: Server = field(default_factory=Server)
    database: Database = field(default_factory=Database)
    archive: Archive = field(default_factory=Archive)
    jobs: Jobs = field(default_factory=Jobs)
    limits: Limits = field(default_factory=Limits)
    log: Log = field(default_factory=Log)
    metrics: Metrics = field(default_factory=Metrics)
    web: Web = field(default_factory=Web)
    clusters: Clusters = field(default_factory=Clusters)
    sources: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    secret_files: tuple[Path, ...] = field(default=(), compare=False, repr=False)


# Settings that may contain a password, and may be in a file of their own.
URLS = ("database.url", "database.replica_url")
# All fields of Config but the last three.
SECTIONS: dict[str, Any] = {f.name: f.type for f in fields_of(Config)[:-3]}
