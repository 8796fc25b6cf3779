"""The registry's figures for a monitoring system, at a bounded cost."""

import logging
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric

from ccapi import __version__, metrics
from ccapi.errors import DatabaseUnavailable
from ccapi.model.job import JobState
from ccapi.repository import metrics as queries
from ccapi.context import Context
from ccapi.db.probe import CachedProbe

_log = logging.getLogger(__name__)
_TIMEOUT_SECONDS = 3
_TTL_SECONDS = 5


class _Figures(NamedTuple):
    running: dict[str, int]
    backlog: queries.Backlog


class DatabaseGauges:
    """Asks the database for figures, at most every 5 seconds, and never waits long."""

    def __init__(self, context: Callable[[], Context]) -> None:
        self._registry = context
        self._watch = CachedProbe(self._ask, ttl_seconds=_TTL_SECONDS)

    def facts(self) -> Iterator[Metric]:
        """Yield version, the database's state, and its figures when it answers."""
        yield InfoMetricFamily("ccapi_build", "The running version.", {"version": __version__})
        try:
            figures = self._watch.answer(_TIMEOUT_SECONDS)
        except (DatabaseUnavailable, TimeoutError) as error:
            _log.warning("no figures from the database: %s", error or "it takes too long")
            figures = None
        up = "Whether PostgreSQL answered the last question for figures."
        yield GaugeMetricFamily("ccapi_database_up", up, value=float(figures is not None))
        if figures is not None:
            yield from _described(figures)

    def _ask(self) -> _Figures:
        with self._registry().database.statement() as conn:
            return _Figures(queries.running_jobs(conn), queries.archive_backlog(conn))


def _described(figures: _Figures) -> Iterator[Metric]:
    running: dict[str, int] = {}
    for cluster, jobs in figures.running.items():
        label = metrics.cluster_label(cluster)
        running[label] = running.get(label, 0) + jobs
    family = GaugeMetricFamily(
        "ccapi_jobs", "Jobs that run now, by cluster.", labels=["cluster", "state"]
    )
    for label, jobs in running.items():
        family.add_metric([label, JobState.RUNNING], jobs)
    yield family
    backlog = figures.backlog
    age = time.time() - backlog.oldest_stop_time if backlog.oldest_stop_time else 0.0
    for name, text, value in (
        (
            "waiting",
            "Stopped jobs that are not archived yet; 100000 stands for more.",
            backlog.waiting,
        ),
        ("failed", "Those of them that could not be archived.", backlog.failed),
        ("age_seconds", "How long the first of them has been stopped.", max(age, 0.0)),
    ):
        yield GaugeMetricFamily(f"ccapi_archive_{name}", text, value=value)
