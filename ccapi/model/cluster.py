"""The clusters of a site: their names, sub-clusters and nodes."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ccapi.model.rules import is_name

# Slurm's notation, f[0101-0188,0201],g1, without the extensions of node list tools.
_RANGE = r"[0-9]{1,18}(?:-[0-9]{1,18})?"
_BRACKET = re.compile(rf"\[{_RANGE}(?:,{_RANGE})*\]")
_NODES = re.compile(rf"(?:[A-Za-z0-9._-]|{_BRACKET.pattern})+")
_NODE_LIST = re.compile(rf"\s*{_NODES.pattern}(?:\s*,\s*{_NODES.pattern})*\s*")


def is_node_list(text: str) -> bool:
    """Return whether `text` has the form of a node list; its ranges may still be empty."""
    return _NODE_LIST.fullmatch(text) is not None


def split_nodes(node_list: str) -> list[str]:
    """Split a node list without expanding it: "f[1-3]r[1-2],g1" has two parts."""
    return _NODES.findall(node_list)


def count_nodes(node_list: str) -> int:
    """Return the largest number of hosts in a node list, without expanding it."""
    total = 0
    for nodes in split_nodes(node_list):
        counts = []
        for bracket in _BRACKET.findall(nodes):
            ranges = (part.partition("-") for part in bracket[1:-1].split(","))
            sizes = (int(last or first) - int(first) + 1 for first, _, last in ranges)
            counts.append(sum(max(0, size) for size in sizes))
        total += math.prod(counts)
    return total


@dataclass(frozen=True)
class Cluster:
    """A cluster of the settings.

    `sub_cluster_of` maps host names to sub-clusters. It is empty when the settings list no
    nodes; then no host is unknown.
    """

    name: str
    sub_cluster_of: Mapping[str, str]

    @classmethod
    def of(cls, name: str, sub_clusters: Mapping[str, Iterable[str]]) -> "Cluster":
        """Make a cluster from the hosts of each sub-cluster.

        Raises ValueError for a host in two of them.
        """
        owner: dict[str, str] = {}
        for sub_cluster, hosts in sub_clusters.items():
            for host in hosts:
                if owner.setdefault(host, sub_cluster) != sub_cluster:
                    raise ValueError(f"{host} is in both {owner[host]} and {sub_cluster}")
        return cls(name, owner)

    @property
    def sub_clusters(self) -> dict[str, list[str]]:
        """Return the hosts of each sub-cluster."""
        hosts: dict[str, list[str]] = {}
        for host, sub_cluster in self.sub_cluster_of.items():
            hosts.setdefault(sub_cluster, []).append(host)
        return hosts


@dataclass(frozen=True)
class Clusters:
    """The clusters that the settings describe, in their order.

    Without any, every valid name of a cluster is known.
    """

    described: tuple[Cluster, ...] = ()

    def __bool__(self) -> bool:
        """Return whether the settings describe any cluster."""
        return bool(self.described)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the clusters."""
        return tuple(cluster.name for cluster in self.described)

    def knows(self, cluster: str) -> bool:
        """Return whether jobs of `cluster` are accepted."""
        return cluster in self.names if self else is_name(cluster)

    def sub_cluster(self, cluster: str, hostnames: Iterable[str]) -> str:
        """Return the sub-cluster of the first host that has one, "" if none has."""
        nodes = self._nodes(cluster)
        return next((nodes[host] for host in hostnames if host in nodes), "")

    def unknown_hosts(self, cluster: str, hostnames: Iterable[str]) -> list[str]:
        """Return the hosts that are in no node list of `cluster`; none if it has no node lists."""
        nodes = self._nodes(cluster)
        return [host for host in hostnames if host not in nodes] if nodes else []

    def _nodes(self, cluster: str) -> Mapping[str, str]:
        """Return the sub-clusters of the nodes of `cluster`, as far as they are described."""
        return next((c.sub_cluster_of for c in self.described if c.name == cluster), {})
