"""What the service counts and measures, and its text for Prometheus.

No label holds a job, a user or a token: the number of series is bounded by what is known
beforehand, and by MAX_CLUSTERS.
"""

from collections.abc import Iterable
from functools import cache
from typing import TypeVar

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from ccapi import prometheus_multiproc

CONTENT_TYPE = CONTENT_TYPE_LATEST
MAX_CLUSTERS = 100

REQUESTS = Counter(
    "ccapi_requests", "Requests answered, by operation and status.", ["endpoint", "status"]
)
REQUEST_SECONDS = Histogram(
    "ccapi_request_seconds",
    "Time to answer a request, streaming included, by operation.",
    ["endpoint"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 3, 10, 30),
)
REJECTED_REQUESTS = Counter("ccapi_rejected_requests", "Rejected requests, by reason.", ["reason"])
STARTS = Counter("ccapi_job_starts", "Jobs registered, by cluster.", ["cluster"])
STOPS = Counter(
    "ccapi_job_stops", "Jobs stopped, by cluster and final state.", ["cluster", "state"]
)
ARCHIVE_FAILURES = Counter(
    "ccapi_archive_failures", "Jobs that could not be written to the archive, per attempt."
)
UNKNOWN_HOSTS = Counter(
    "ccapi_unknown_hosts",
    "Hosts of started jobs that the settings do not list for their cluster.",
    ["cluster"],
)
ROUND_TRIP_SECONDS = Histogram(
    "ccapi_database_round_trip_seconds",
    "Round-trip time of an empty query to PostgreSQL.",
    buckets=(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.2, 1, 5),
)
CONNECTION_HELD_SECONDS = Histogram(
    "ccapi_database_connection_held_seconds",
    "Time that a request holds a connection to PostgreSQL.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 15),
)
DATABASE_FAILURES = Counter(
    "ccapi_database_failures", "Times that PostgreSQL could not be asked, or did not answer."
)
READS = Counter(
    "ccapi_reads",
    "Requests of readers, by the database that answered; only with a replica.",
    ["database"],
)
for _database in ("primary", "replica"):
    READS.labels(_database)
CONNECTIONS_IN_USE = Gauge(
    "ccapi_database_connections_in_use",
    "Connections to PostgreSQL that requests hold now.",
    multiprocess_mode="livesum",
)
CONNECTIONS_MAX = Gauge(
    "ccapi_database_connections_max",
    "Connections to PostgreSQL that the workers may open together.",
    multiprocess_mode="livesum",
)

Parent = TypeVar("Parent", bound=MetricWrapperBase)


@cache
def child(parent: Parent, *labels: object) -> Parent:
    """Return the series of a metric with some labels; there are few, and each is kept."""
    return parent.labels(*labels)


_clusters = prometheus_multiproc.Names(MAX_CLUSTERS)


def cluster_label(cluster: str) -> str:
    """Return a cluster's name as a label; beyond the first MAX_CLUSTERS it is "other".

    Where the settings describe no clusters, every name is accepted.
    """
    return _clusters.label(cluster)


class _Facts(Collector):
    def __init__(self, facts: Iterable[Metric]) -> None:
        self._facts = facts

    def collect(self) -> Iterable[Metric]:
        return self._facts


def exposition(facts: Iterable[Metric]) -> bytes:
    """Write what all workers counted, and further facts, as Prometheus reads it."""
    directory = prometheus_multiproc.directory()
    registry = CollectorRegistry()
    # Asked for before the lock is held: a label may need it, too.
    registry.register(_Facts(list(facts)))
    if directory is None:
        return bytes(generate_latest(REGISTRY) + generate_latest(registry))
    MultiProcessCollector(registry, str(directory))
    with prometheus_multiproc.locked(directory):
        return bytes(generate_latest(registry))
