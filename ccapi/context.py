"""What every use case works on."""

from dataclasses import dataclass
from pathlib import Path

from ccapi.model.cluster import Clusters
from ccapi.db.pool import Database
from ccapi.db.replica import Replica

# What gunicorn gives a request before it kills the worker. A list of a million jobs is one
# request, and so is a deletion.
MAX_REQUEST_SECONDS = 120


@dataclass(frozen=True)
class Context:
    """The job registry: a database, an archive, and the site's rules.

    A run counts as registered already when another of the same cluster and job id
    starts within `duplicate_window` seconds of it. Readers may be answered from `standby`.
    """

    database: Database
    archive_root: Path
    clusters: Clusters
    duplicate_window: int
    replica: Replica | None = None
