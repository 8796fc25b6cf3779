"""Answer which hosts jobs use and which clusters there are, and keep the states of nodes."""

from collections.abc import Mapping, Sequence
from typing import Any

from ccapi.context import Context
from ccapi.errors import Forbidden
from ccapi.repository import nodes
from ccapi.service.lifecycle import require_known_cluster


def list_used_hosts(context: Context, time: int, cluster: str | None) -> dict[str, list[str]]:
    """Return the hosts of the visible jobs that ran at a time (epoch seconds), by cluster."""
    with context.database.connection() as conn:
        return nodes.list_used_hosts(conn, time, cluster, context.scope)


def list_clusters(context: Context) -> dict[str, dict[str, list[str]]]:
    """Return each cluster's sub-clusters with their hosts.

    The settings describe them; without settings, they are the clusters of the visible jobs.
    A token that is limited to clusters sees these.
    """
    if context.clusters:
        limit = context.scope.clusters
        return {
            cluster.name: cluster.sub_clusters
            for cluster in context.clusters.described
            if limit is None or cluster.name in limit
        }
    with context.database.connection() as conn:
        return {name: {} for name in nodes.list_clusters(conn, context.scope)}


def save_states(context: Context, cluster: str, states: Sequence[Mapping[str, Any]]) -> None:
    """Keep the last state of each node.

    Raises InvalidInput for a cluster that the settings do not describe, and Forbidden for a
    limited token.
    """
    if not context.scope.includes_all_of(cluster):
        raise Forbidden(f"the token's limits do not include all jobs of cluster {cluster}")
    require_known_cluster(context, cluster)
    with context.database.connection() as conn:
        nodes.save_states(conn, cluster, states)
