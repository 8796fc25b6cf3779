"""Gauges that come from the database, at a bounded cost."""

import logging
import math
import time
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric

import ccapi
from ccapi.context import Context
from ccapi.db import sites
from ccapi.db.probe import CachedProbe
from ccapi.db.sites import Subscription
from ccapi.errors import DatabaseUnavailable
from ccapi.metrics import cluster_label
from ccapi.model.job import JobState, Range
from ccapi.repository import metrics, tokens
from ccapi.repository.metrics import ArchiveBacklog
from ccapi.service import hosts

_log = logging.getLogger(__name__)
_TIMEOUT_SECONDS = 3
_TTL_SECONDS = 5
# It reads all jobs of the last day.
_HOSTS_TTL_SECONDS = 600
_DAY_SECONDS = 86_400
_YEAR_SECONDS = 366 * _DAY_SECONDS


class _Values(NamedTuple):
    running: dict[str, int]
    backlog: ArchiveBacklog
    token_expires_at: float
    subscriptions: list[Subscription]


class DatabaseGauges:
    """Queries the database for gauges at most every 5 seconds, and never waits long."""

    def __init__(self, context: Context) -> None:
        def query() -> _Values:
            with context.database.connection() as conn:
                expiring = tokens.list_expiring(conn, _YEAR_SECONDS)
                return _Values(
                    metrics.count_running_jobs(conn),
                    metrics.archive_backlog(conn),
                    min((at.timestamp() for _, at in expiring), default=math.inf),
                    sites.list_subscriptions(conn) if context.is_hub else [],
                )

        def count_failing_hosts() -> Counter[str]:
            now = int(time.time())
            reports = hosts.report(context, Range(now - _DAY_SECONDS, now), None, now)
            return Counter(
                {
                    name: sum(host.stands_out for host in each.hosts)
                    for name, each in reports.items()
                }
            )

        self._probe = CachedProbe(query, ttl_seconds=_TTL_SECONDS)
        self._hosts_probe = CachedProbe(count_failing_hosts, ttl_seconds=_HOSTS_TTL_SECONDS)
        self._failing_hosts: Counter[str] = Counter()

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
        text = "Time until the first token in use expires that has no successor; +Inf without one."
        left = values.token_expires_at - time.time()
        yield GaugeMetricFamily("ccapi_token_expiry_seconds", text, value=left)
        up = "On a hub: whether the jobs of a site arrive, by subscription."
        family = GaugeMetricFamily("ccapi_subscription_up", up, labels=["subscription"])
        for subscription in values.subscriptions:
            family.add_metric([subscription.name], float(not subscription.problem))
        yield family
        yield self._collect_hosts()

    def _collect_hosts(self) -> Metric:
        """Return the number of failing hosts; it may be old, because counting takes a while."""
        try:
            self._failing_hosts = self._hosts_probe.result(_TIMEOUT_SECONDS)
        except (DatabaseUnavailable, TimeoutError) as error:
            _log.warning("cannot count failing hosts: %s", error or "timeout")
        text = "Hosts whose jobs failed too often in the last 24 hours; see GET /api/hosts/."
        family = GaugeMetricFamily("ccapi_failing_hosts", text, labels=["cluster"])
        numbers: Counter[str] = Counter()
        for cluster, number in self._failing_hosts.items():
            numbers[cluster_label(cluster)] += number
        for label, number in numbers.items():
            family.add_metric([label], number)
        return family
