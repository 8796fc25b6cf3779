"""Hosts of jobs at a time, clusters, and states of nodes: sql/queries/nodes.sql."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from psycopg.rows import class_row, scalar_row

from ccapi.db import queries
from ccapi.db.pool import Connection
from ccapi.model.token import Scope
from ccapi.repository.jobs import scope_params

_SQL = queries.load("nodes")


@dataclass(slots=True, kw_only=True)
class NodeState:
    """What a client last reported of a node."""

    cluster: str
    states: list[str]
    jobs_running: int
    reported_at: datetime


def list_used_hosts(
    conn: Connection, time: int, cluster: str | None, scope: Scope
) -> dict[str, list[str]]:
    """List the hosts of the jobs that ran at a time (epoch seconds), sorted, by cluster."""
    params = {"time": time, "cluster": cluster, **scope_params(scope)}
    hosts: dict[str, list[str]] = {}
    for name, host in conn.execute(_SQL["list_used_hosts"], params, prepare=False):
        hosts.setdefault(name, []).append(host)
    return hosts


def list_clusters(conn: Connection, scope: Scope) -> list[str]:
    """List the clusters that the visible jobs have, sorted."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        if scope.is_limited:
            cursor.execute(_SQL["list_scoped_clusters"], scope_params(scope), prepare=False)
        else:
            cursor.execute(_SQL["list_clusters"])
        return cursor.fetchall()


def save_states(conn: Connection, cluster: str, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Keep the last state of each node; their keys are the columns, `hostname` is distinct."""
    params = {"cluster": cluster, "nodes": orjson.dumps(nodes).decode()}
    conn.execute(_SQL["save_node_states"], params)


def find_states(conn: Connection, host: str) -> list[NodeState]:
    """Return the last reported state of a host, on each cluster that has one."""
    with conn.cursor(row_factory=class_row(NodeState)) as cursor:
        return cursor.execute(_SQL["find_node_states"], {"host": host}).fetchall()


def list_states(
    conn: Connection, clusters: Sequence[str] | None
) -> dict[tuple[str, str], list[str]]:
    """Return the last reported states of nodes by cluster and host; None: of all clusters."""
    params = {"clusters": None if clusters is None else list(clusters)}
    rows = conn.execute(_SQL["list_node_states"], params)
    return {(cluster, host): states for cluster, host, states in rows}
