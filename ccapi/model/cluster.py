"""The clusters of a site: their names, their sub-clusters and which node is where."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ccapi.model.rules import is_name

# Slurm's notation, f[0101-0188,0201],g1, and nothing else that node list tools know.
_RANGE = r"[0-9]{1,18}(?:-[0-9]{1,18})?"
_BRACKET = re.compile(rf"\[{_RANGE}(?:,{_RANGE})*\]")
_NODES = re.compile(rf"(?:[A-Za-z0-9._-]|{_BRACKET.pattern})+")
_NODE_LIST = re.compile(rf"\s*{_NODES.pattern}(?:\s*,\s*{_NODES.pattern})*\s*")


def is_node_list(text: str) -> bool:
    """Tell whether `text` has the form of a node list; its ranges may still make no sense."""
    return _NODE_LIST.fullmatch(text) is not None


def split_nodes(node_list: str) -> list[str]:
    """Return the parts of a node list, `f[1-3]r[1-2]` being one, not expanded."""
    return _NODES.findall(node_list)


def count_nodes(node_list: str) -> int:
    """Return how many hosts a node list means at most, without expanding it."""
    return sum(
        math.prod(_count_numbers(bracket) for bracket in _BRACKET.findall(nodes))
        for nodes in split_nodes(node_list)
    )


def _count_numbers(bracket: str) -> int:
    """Return how many numbers `[0101-0188,0201]` means."""
    ranges = (part.partition("-") for part in bracket[1:-1].split(","))
    return sum(max(0, int(last or first) - int(first) + 1) for first, _, last in ranges)


@dataclass(frozen=True)
class Cluster:
    """A cluster as the settings describe it.

    `sub_cluster_of` maps host names to sub-clusters; it is empty when the settings
    list no nodes, and then every host is accepted without remark.
    """

    name: str
    sub_cluster_of: Mapping[str, str]

    @classmethod
    def of(cls, name: str, sub_clusters: Mapping[str, Iterable[str]]) -> "Cluster":
        """Build a cluster from the hosts of each sub-cluster.

        Raises ValueError when a host is in two of them.
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

    Without any, every well-formed cluster name is known.
    """

    described: tuple[Cluster, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether any cluster is described."""
        return bool(self.described)

    @property
    def names(self) -> tuple[str, ...]:
        """Name the described clusters."""
        return tuple(cluster.name for cluster in self.described)

    def knows(self, cluster: str) -> bool:
        """Tell whether jobs of `cluster` are accepted."""
        return cluster in self.names if self else is_name(cluster)

    def sub_cluster(self, cluster: str, hostnames: Iterable[str]) -> str:
        """Return the sub-cluster of the first host that has one, else ""."""
        known = self._nodes(cluster)
        return next((known[host] for host in hostnames if host in known), "")

    def unknown_hosts(self, cluster: str, hostnames: Iterable[str]) -> list[str]:
        """Return the hosts that no node list of `cluster` has.

        Empty when the cluster is not described, or described without node lists.
        """
        known = self._nodes(cluster)
        return [host for host in hostnames if host not in known] if known else []

    def _nodes(self, cluster: str) -> Mapping[str, str]:
        """Return the sub-cluster of each node of `cluster`, as far as described."""
        return next((known.sub_cluster_of for known in self.described if known.name == cluster), {})
