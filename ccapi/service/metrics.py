"""Gauges that come from the database, at a bounded cost."""

import logging
import time
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric

import ccapi
from ccapi.context import Context
from ccapi.db.probe import CachedProbe
from ccapi.errors import DatabaseUnavailable
from ccapi.metrics import cluster_label
from ccapi.model.job import JobState
from ccapi.repository import metrics
from ccapi.repository.metrics import ArchiveBacklog

_log = logging.getLogger(__name__)
_TIMEOUT_SECONDS = 3
_TTL_SECONDS = 5


class _Values(NamedTuple):
    running: dict[str, int]
    backlog: ArchiveBacklog


class DatabaseGauges:
    """Queries the database for gauges at most every 5 seconds, and never waits long."""

    def __init__(self, context: Context) -> None:
        def query() -> _Values:
            with context.database.connection() as conn:
                return _Values(metrics.count_running_jobs(conn), metrics.archive_backlog(conn))

        self._probe = CachedProbe(query, ttl_seconds=_TTL_SECONDS)

    def collect(self) -> Iterator[Metric]:
        """Yield the version, whether the database is up and, if it is, its gauges."""
        version = {"version": ccapi.__version__}
        yield InfoMetricFamily("ccapi_build", "The running version.", version)
        try:
            values = self._probe.result(_TIMEOUT_SECONDS)
        except (DatabaseUnavailable, TimeoutError) as error:
            _log.warning("cannot query database statistics: %s", error or "timeout")
            values = None
        up = "Whether PostgreSQL answered the last query for these gauges."
        yield GaugeMetricFamily("ccapi_database_up", up, value=float(values is not None))
        if values is None:
            return
        running: Counter[str] = Counter()
        for cluster, number in values.running.items():
            running[cluster_label(cluster)] += number
        family = GaugeMetricFamily(
            "ccapi_jobs", "Jobs that run now, by cluster.", labels=["cluster", "state"]
        )
        for label, number in running.items():
            family.add_metric([label, JobState.RUNNING], number)
        yield family
        pending, failed, oldest_stop_time = values.backlog
        age = max(time.time() - oldest_stop_time, 0.0) if oldest_stop_time else 0.0
        for name, text, value in (
            ("pending", "Stopped jobs that are not archived yet; 100000 stands for more.", pending),
            ("failed", "Pending jobs that could not be archived.", failed),
            ("oldest_pending_seconds", "Time since the first pending job stopped.", age),
        ):
            yield GaugeMetricFamily(f"ccapi_archive_{name}", text, value=value)
