"""What every use case gets: the database, the archive, and the site's settings."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ccapi.archive.breaker import CircuitBreaker
from ccapi.db.budgets import Budgets
from ccapi.model.token import ALL_JOBS, Scope

# gunicorn's master imports this module, and must not import prometheus_client before it has
# made the workers' directory.
if TYPE_CHECKING:
    from ccapi.db.pool import Database
    from ccapi.db.replica import Replica
    from ccapi.model.cluster import Clusters

# What gunicorn gives a request before it kills the worker. A list of a million jobs is one
# request, and so is a deletion.
MAX_REQUEST_SECONDS = 120


@dataclass(frozen=True)
class Context:
    """The database, the archive and the settings of the job registry.

    A run is a duplicate if another one of the same cluster and job id starts within
    `duplicate_window` seconds of it. A `replica` may answer readers. Jobs out of `scope` do
    not exist for the request's token. Requests access the archive through `archive_io` only. A hub
    shows the jobs of many sites; it changes none, and has no archive.
    """

    database: "Database"
    archive_root: Path
    clusters: "Clusters"
    duplicate_window: int
    archive_version: int = 3
    replica: "Replica | None" = None
    scope: Scope = ALL_JOBS
    is_hub: bool = False
    budgets: Budgets = field(default_factory=Budgets, compare=False)
    archive_io: CircuitBreaker = field(default_factory=CircuitBreaker, compare=False)
