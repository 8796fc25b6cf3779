"""The overview of all clusters, and one cluster."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from flask import render_template

from ccapi.api.serializers import now
from ccapi.context import Context
from ccapi.errors import Unknown
from ccapi.model.job import JobFilter, JobState, Range
from ccapi.model.statistics import GroupBy
from ccapi.repository import job_list, metrics
from ccapi.repository import nodes as node_rows
from ccapi.repository.metrics import ArchiveBacklog, OverdueJob
from ccapi.service import hosts, nodes
from ccapi.web import totals
from ccapi.web.pages import blueprint, shared_part
from ccapi.web.totals import Totals

_DAY_SECONDS, _WEEK_SECONDS = 86_400, 7 * 86_400
_MAX_OVERDUE = 20
# As `ccapi jobs overdue`.
_GRACE_SECONDS = 600


@dataclass(frozen=True)
class ClusterSummary:
    """What runs on a cluster now, and what ran in the last day.

    `num_nodes` is None if neither the settings nor nodestate list the cluster's nodes.
    """

    name: str
    num_running: int
    nodes_in_use: int
    num_nodes: int | None
    day: Totals

    @property
    def use(self) -> int | None:
        """Return the nodes in use in percent of all."""
        return 100 * self.nodes_in_use // self.num_nodes if self.num_nodes else None


@blueprint.page("/")
def overview_page(context: Context, _: dict[str, Any]) -> str:
    """Show all clusters."""

    def render(context: Context) -> str:
        at = now()
        in_use = nodes.list_used_hosts(context, at, None)
        clusters = [
            _summarize(context, name, sub_clusters, len(in_use.get(name, ())), at)
            for name, sub_clusters in nodes.list_clusters(context).items()
        ]
        overdue, backlog = _trouble(context, at, None)
        return render_template(
            "overview_content.html", clusters=clusters, overdue=overdue, backlog=backlog, at=at
        )

    return render_template("overview.html", content=shared_part("overview", context, render))


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
        by = (GroupBy.USER, GroupBy.PROJECT, GroupBy.PARTITION)
        report = hosts.report(context, Range(at - _WEEK_SECONDS, at), (name,), at).get(name)
        return render_template(
            "cluster_content.html",
            cluster=_summarize(context, name, sub_clusters, len(in_use), at),
            groups=totals.top_groups(context, jobs, _DAY_SECONDS, by),
            sub_clusters=[
                (sub_cluster, len(hosts), len(set(hosts).intersection(in_use)))
                for sub_cluster, hosts in sub_clusters.items()
            ],
            report=report,
            failing=[one for one in report.hosts if one.stands_out] if report else [],
            overdue=overdue,
            backlog=backlog,
            at=at,
        )

    content = shared_part(f"cluster {name}", context, render)
    return render_template("cluster.html", name=name, content=content)


def _summarize(
    context: Context, name: str, sub_clusters: Mapping[str, list[str]], nodes_in_use: int, at: int
) -> ClusterSummary:
    jobs = JobFilter(cluster=(name,), scope=context.scope, now=at)
    with context.database.connection() as conn:
        num_running = job_list.count(conn, replace(jobs, state=(JobState.RUNNING,)))
        num_nodes = sum(map(len, sub_clusters.values()))
        if num_nodes == 0 and not context.scope.is_limited:
            num_nodes = len(node_rows.list_states(conn, (name,)))
    return ClusterSummary(
        name=name,
        num_running=num_running,
        nodes_in_use=nodes_in_use,
        num_nodes=num_nodes or None,
        day=totals.count(context, jobs, _DAY_SECONDS),
    )


def _trouble(
    context: Context, at: int, cluster: str | None
) -> tuple[list[OverdueJob], ArchiveBacklog | None]:
    """Return the overdue jobs and the archive's queue; nothing for a limited visitor."""
    if context.scope.is_limited:
        return [], None
    with context.database.connection() as conn:
        overdue = metrics.list_overdue_jobs(conn, at, _GRACE_SECONDS, cluster, _MAX_OVERDUE)
        return overdue, metrics.archive_backlog(conn)
