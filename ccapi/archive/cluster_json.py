"""cluster.json: a cluster as cc-backend wants it described; it starts with no less than this."""

import re
from collections.abc import Iterable
from itertools import groupby
from typing import Any

import orjson

from ccapi.model.cluster import Cluster

# The sub-cluster of a cluster whose settings have none.
DEFAULT_SUB_CLUSTER = "main"
_ALL_NODES = "*"
# Marks the files that ccapi may remove again; cc-backend passes over it.
_GENERATOR = ("generatedBy", "ccapi")
# Without a metric cc-backend does not start; no job has data of this one.
_METRIC = {
    "name": "cpu_load",
    "unit": {"base": ""},
    "scope": "node",
    "timestep": 60,
    "aggregation": "avg",
    **dict.fromkeys(("peak", "normal", "caution", "alert"), 1),
}
# The hardware is unknown here, so a node has one thread.
_HARDWARE = {
    "processorType": "unknown",
    "socketsPerNode": 1,
    "coresPerSocket": 1,
    "threadsPerCore": 1,
    "flopRateScalar": {"unit": {"base": "F/s", "prefix": "G"}, "value": 1},
    "flopRateSimd": {"unit": {"base": "F/s", "prefix": "G"}, "value": 1},
    "memoryBandwidth": {"unit": {"base": "B/s", "prefix": "G"}, "value": 1},
    "topology": {"node": [0], "socket": [[0]], "memoryDomain": [[0]], "core": [[0]]},
}
# cc-backend accepts no other characters; its ranges are of numbers of equal length in 32 bits.
_HOST = re.compile(r"(?P<prefix>[A-Za-z0-9][A-Za-z0-9-]*?)(?P<digits>[0-9]{0,9})")


def build(name: str, cluster: Cluster | None) -> bytes:
    """Write the cluster.json of a cluster, described in the settings or not."""
    described = cluster.sub_clusters if cluster is not None else {}
    sub_clusters = described or {DEFAULT_SUB_CLUSTER: []}
    document = {
        "name": name,
        _GENERATOR[0]: _GENERATOR[1],
        "metricConfig": [_METRIC],
        "subClusters": [_sub_cluster(name, hosts) for name, hosts in sub_clusters.items()],
    }
    return _dump(document)


def update(data: bytes, cluster: Cluster) -> bytes:
    """Return a cluster.json with the sub-clusters that the settings have now, if ccapi wrote it.

    Former sub-clusters stay, because archived jobs name them, and so does what somebody added.
    """
    if not is_generated(data) or not cluster.sub_clusters:
        return data
    document = orjson.loads(data)
    try:
        former = {sub_cluster["name"]: sub_cluster for sub_cluster in document["subClusters"]}
    except (LookupError, TypeError):
        return data
    for name, hosts in cluster.sub_clusters.items():
        former.setdefault(name, _sub_cluster(name, hosts))["nodes"] = node_list(hosts)
    document["subClusters"] = [*former.values()]
    return data if document == orjson.loads(data) else _dump(document)


def _sub_cluster(name: str, hosts: Iterable[str]) -> dict[str, Any]:
    return {"name": name, "nodes": node_list(hosts), **_HARDWARE}


def _dump(document: dict[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"


def sub_cluster_names(data: bytes) -> tuple[str, ...]:
    """Return the names of a cluster.json's sub-clusters; none if it is broken."""
    try:
        names = [sub_cluster["name"] for sub_cluster in orjson.loads(data)["subClusters"]]
    except (ValueError, LookupError, TypeError):
        return ()
    return tuple(name for name in names if isinstance(name, str) and name)


def is_generated(data: bytes) -> bool:
    """Return whether ccapi wrote a cluster.json, and nobody replaced it."""
    try:
        document = orjson.loads(data)
    except ValueError:
        return False
    return isinstance(document, dict) and document.get(_GENERATOR[0]) == _GENERATOR[1]


def node_list(hosts: Iterable[str]) -> str:
    """Return hosts in cc-backend's notation, "f[0101-0188],login"; others are left out."""
    numbered: list[tuple[str, int, int]] = []
    terms: list[str] = []
    for host in sorted(hosts):
        match = _HOST.fullmatch(host)
        if match is None:
            continue
        if match["digits"]:
            numbered.append((match["prefix"], len(match["digits"]), int(match["digits"])))
        else:
            terms.append(host)
    # Consecutive numbers differ from their positions by the same amount.
    positions = enumerate(sorted(numbered))
    for (prefix, width, _), same_run in groupby(
        positions, lambda item: (*item[1][:2], item[1][2] - item[0])
    ):
        numbers = [number for _, (_, _, number) in same_run]
        first, last = f"{numbers[0]:0{width}}", f"{numbers[-1]:0{width}}"
        terms.append(f"{prefix}[{first}-{last}]" if len(numbers) > 1 else f"{prefix}{first}")
    return ",".join(terms) or _ALL_NODES
