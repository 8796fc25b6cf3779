"""The metrics of the service, and their text for Prometheus.

No label is a job, a user or a token, and at most MAX_CLUSTERS are clusters: the number of
series is bounded.
"""

from collections.abc import Iterable
from functools import cache, lru_cache
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
    "ccapi_requests", "Answered requests, by operation and status.", ["endpoint", "status"]
)
REQUEST_SECONDS = Histogram(
    "ccapi_request_seconds",
    "Time to answer a request, including its stream, by operation.",
    ["endpoint"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 3, 10, 30),
)
BATCH_LINES = Counter("ccapi_batch_lines", "Answered lines of batches, by status.", ["status"])
REJECTED_REQUESTS = Counter("ccapi_rejected_requests", "Rejected requests, by reason.", ["reason"])
CUT_OFF_RESPONSES = Counter(
    "ccapi_cut_off_responses", "Answers that were cut off because their clients read too slowly."
)
IGNORED_FIELDS = Counter(
    "ccapi_ignored_fields", "Unknown fields in bodies, by operation.", ["endpoint"]
)
STARTS = Counter("ccapi_job_starts", "Jobs registered, by cluster.", ["cluster"])
STOPS = Counter(
    "ccapi_job_stops", "Jobs stopped, by cluster and final state.", ["cluster", "state"]
)
ARCHIVE_FAILURES = Counter("ccapi_archive_failures", "Failed attempts to archive a job.")
UNKNOWN_HOSTS = Counter(
    "ccapi_unknown_hosts",
    "Hosts of started jobs that are not in the settings of their cluster.",
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
    "ccapi_database_failures", "Requests and probes that PostgreSQL did not answer."
)
READS = Counter(
    "ccapi_reads",
    "Reads that were not cached, by database; counted only with a replica.",
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
    "Connections to PostgreSQL that all workers together may open.",
    multiprocess_mode="livesum",
)

Parent = TypeVar("Parent", bound=MetricWrapperBase)


@cache
def child(parent: Parent, *labels: object) -> Parent:
    """Return the child of a metric for some labels; cached, as their number is bounded."""
    return parent.labels(*labels)


_cluster_labels = prometheus_multiproc.LabelLimiter(MAX_CLUSTERS)


@lru_cache(maxsize=1_000)
def cluster_label(cluster: str) -> str:
    """Return a cluster's name as a label, "other" beyond the first MAX_CLUSTERS.

    Without described clusters the service accepts every name.
    """
    return _cluster_labels.label(cluster)


class _MetricsCollector(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        # Now, not in `collect`: a label may need the lock that `expose` holds by then.
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def expose(gauges: Iterable[Metric]) -> bytes:
    """Return the metrics of all workers, and further gauges, in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_MetricsCollector(gauges))
    with prometheus_multiproc.locked_pools() as directories:
        if not directories:
            return bytes(generate_latest(REGISTRY) + generate_latest(registry))
        files = [str(file) for directory in directories for file in directory.glob("*.db")]
        registry.register(_MetricsCollector(MultiProcessCollector.merge(files)))
        return bytes(generate_latest(registry))
