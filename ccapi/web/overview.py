"""The overview of all clusters, and one cluster."""

from dataclasses import dataclass, replace
from typing import Any

from flask import render_template

from ccapi.api.serializers import now
from ccapi.context import Context
from ccapi.errors import Unknown
from ccapi.model.job import JobFilter, JobState, Range
from ccapi.model.statistics import Group, GroupBy, Statistics, StatisticsQuery
from ccapi.repository import job_list, metrics
from ccapi.repository.metrics import ArchiveBacklog, OverdueJob
from ccapi.service import nodes, statistics
from ccapi.web import charts
from ccapi.web.charts import Steps
from ccapi.web.pages import blueprint, shared_part

_DAY_SECONDS = 86_400
_MAX_OVERDUE, _MAX_GROUPS = 20, 10
# As `ccapi jobs overdue`.
_GRACE_SECONDS = 600


@dataclass(frozen=True)
class ClusterSummary:
    """What runs on a cluster now, and what ran in the last day.

    `num_nodes` is None if the settings do not list the cluster's nodes. `in_use` and
    `num_running` have the nodes and jobs over the day.
    """

    name: str
    num_running: int
    nodes_in_use: int
    num_nodes: int | None
    node_hours: float
    num_jobs: int
    states: list[Group]
    chart: Steps
    begin: int
    end: int

    @property
    def use(self) -> int | None:
        """Return the nodes in use in percent of all."""
        return 100 * self.nodes_in_use // self.num_nodes if self.num_nodes else None


@blueprint.page("/")
def overview_page(context: Context, _: dict[str, Any]) -> str:
    """Show all clusters."""
    return render_template("overview.html", content=shared_part("overview", context, _overview))


def _overview(context: Context) -> str:
    at = now()
    in_use = nodes.list_used_hosts(context, at, None)
    clusters = [
        summarize(context, name, sub_clusters, len(in_use.get(name, ())), at)
        for name, sub_clusters in nodes.list_clusters(context).items()
    ]
    overdue, backlog = _trouble(context, at, None)
    return render_template(
        "overview_content.html", clusters=clusters, overdue=overdue, backlog=backlog, at=at
    )


def summarize(
    context: Context, name: str, sub_clusters: dict[str, list[str]], nodes_in_use: int, at: int
) -> ClusterSummary:
    """Return what runs on a cluster at a time, and what ran in the day before."""
    jobs = JobFilter(cluster=(name,), scope=context.scope, now=at)
    running = replace(jobs, state=(JobState.RUNNING,))
    with context.database.connection() as conn:
        num_running = job_list.count(conn, running)
    day = count(context, jobs, GroupBy.STATE)
    return ClusterSummary(
        name=name,
        num_running=num_running,
        nodes_in_use=nodes_in_use,
        num_nodes=sum(map(len, sub_clusters.values())) or None,
        node_hours=day.node_seconds / 3600,
        num_jobs=day.num_jobs,
        states=day.groups,
        chart=charts.steps([point.num_nodes for point in day.timeline]),
        begin=at - _DAY_SECONDS,
        end=at,
    )


def count(context: Context, jobs: JobFilter, by: GroupBy, limit: int = 20) -> Statistics:
    """Count the jobs that ran in the last day, by group and over time."""
    query = StatisticsQuery(
        jobs=jobs,
        time=Range(jobs.now - _DAY_SECONDS, jobs.now),
        group_by=frozenset([by]),
        sort_by_num_jobs=by is GroupBy.STATE,
        limit=limit,
        with_timeline=by is GroupBy.STATE,
    )
    return statistics.compute(context, query)


@blueprint.page("/clusters/<name>")
def cluster_page(context: Context, _: dict[str, Any], *, name: str) -> str:
    """Show one cluster."""
    sub_clusters = nodes.list_clusters(context).get(name)
    if sub_clusters is None:
        raise Unknown(f"there is no cluster {name[:64]}")

    def render(context: Context) -> str:
        at = now()
        in_use = nodes.list_used_hosts(context, at, name).get(name, [])
        jobs = JobFilter(cluster=(name,), scope=context.scope, now=at)
        overdue, backlog = _trouble(context, at, name)
        return render_template(
            "cluster_content.html",
            cluster=summarize(context, name, sub_clusters, len(in_use), at),
            groups={
                by: count(context, jobs, by, _MAX_GROUPS).groups
                for by in (GroupBy.USER, GroupBy.PROJECT, GroupBy.PARTITION)
            },
            sub_clusters=[
                (sub_cluster, len(hosts), len(set(hosts).intersection(in_use)))
                for sub_cluster, hosts in sub_clusters.items()
            ],
            overdue=overdue,
            backlog=backlog,
            at=at,
        )

    content = shared_part(f"cluster {name}", context, render)
    return render_template("cluster.html", name=name, content=content)


def _trouble(
    context: Context, at: int, cluster: str | None
) -> tuple[list[OverdueJob], ArchiveBacklog | None]:
    """Return the overdue jobs and the archive's queue; nothing for a limited visitor."""
    if context.scope.is_limited:
        return [], None
    with context.database.connection() as conn:
        overdue = metrics.list_overdue_jobs(conn, at, _GRACE_SECONDS, cluster)
        return overdue[:_MAX_OVERDUE], metrics.archive_backlog(conn)
