"""A reader of the archive, version 3, that was written from its description alone.

It uses nothing of ccapi: what it refuses, a reader of another program refuses, too.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STATES = {
    "boot_fail", "cancelled", "completed", "deadline", "failed", "node_fail", "out_of_memory",
    "preempted", "timeout",
}  # fmt: skip
REQUIRED = {
    "jobId": int, "user": str, "project": str, "cluster": str, "subCluster": str, "numNodes": int,
    "shared": str, "startTime": int, "jobState": str, "duration": int, "resources": list,
    "statistics": dict,
}  # fmt: skip
POSITIVE = ("numNodes", "numHwthreads", "numAcc", "walltime", "startTime", "duration",
            "requestedMemory")  # fmt: skip
IN_32_BITS = ("numNodes", "numHwthreads", "numAcc", "smt", "duration", "exclusive")
IN_64_BITS = ("jobId", "arrayJobId", "walltime", "startTime", "submitTime", "requestedMemory")
BASES = {"B", "F", "B/s", "F/s", "CPI", "IPC", "Hz", "W", "°C", ""}
METRIC = {"name": str, "unit": dict, "scope": str, "timestep": int, "aggregation": str,
          "peak": int, "normal": int, "caution": int, "alert": int}  # fmt: skip
SUB_CLUSTER = {"name": str, "nodes": str, "topology": dict, "processorType": str,
               "socketsPerNode": int, "coresPerSocket": int, "threadsPerCore": int,
               "flopRateScalar": dict, "flopRateSimd": dict, "memoryBandwidth": dict}  # fmt: skip
TERM = r"[A-Za-z0-9][A-Za-z0-9-]*(\[([0-9]{1,9})-([0-9]{1,9})\])?"


def read(root: Path) -> Iterator[dict[str, Any]]:
    """Return the jobs of an archive; fails on anything that is not as described."""
    assert (root / "version.txt").read_text("ascii").strip() == "3"
    for cluster in root.iterdir():
        if cluster.is_dir():
            sub_clusters = read_cluster(cluster)
            for path in cluster.glob("*/*/*/*"):
                assert path.name == "meta.json"
            for path in cluster.glob("*/*/*"):
                job = read_job(path / "meta.json", sub_clusters)
                group, number = divmod(job["jobId"], 1000)
                expected = (job["cluster"], str(group), f"{number:03d}", str(job["startTime"]))
                assert path.relative_to(root).parts == expected
                yield job


def read_cluster(directory: Path) -> set[str]:
    """Return the names of a cluster's sub-clusters."""
    cluster = json.loads((directory / "cluster.json").read_bytes())
    assert cluster["name"] == directory.name
    for metric in cluster["metricConfig"]:
        require(metric, METRIC)
        assert metric["timestep"] >= 1
    for sub_cluster in cluster["subClusters"]:
        require(sub_cluster, SUB_CLUSTER)
        assert {"node", "socket", "memoryDomain"} <= sub_cluster["topology"].keys()
        nodes = sub_cluster["nodes"]
        for term in [] if nodes == "*" else nodes.split(","):
            match = re.fullmatch(TERM, term)
            assert match, term
            assert match[1] is None or (
                len(match[2]) == len(match[3]) and int(match[2]) <= int(match[3])
            )
    names = [sub_cluster["name"] for sub_cluster in cluster["subClusters"]]
    assert cluster["metricConfig"]
    assert names
    return set(names)


def read_job(path: Path, sub_clusters: set[str]) -> dict[str, Any]:
    """Return a job."""
    job: dict[str, Any] = json.loads(path.read_bytes())
    require(job, REQUIRED)
    assert job["jobState"] in STATES
    assert job["subCluster"] in sub_clusters
    assert job["shared"] in {"none", "single_user", "multi_user"}
    assert None not in job.values()
    assert all(job.get(name, 1) > 0 for name in POSITIVE)
    assert all(-(2**31) <= job.get(name, 0) < 2**31 for name in IN_32_BITS)
    assert all(-(2**63) <= job.get(name, 0) < 2**63 for name in IN_64_BITS)
    assert len(job["resources"]) == job["numNodes"]
    assert len({node["hostname"] for node in job["resources"]}) == job["numNodes"]
    for metric in job["statistics"].values():
        assert metric["unit"].keys() <= {"base", "prefix"}
        assert "prefix" not in metric["unit"] or (
            metric["unit"]["base"] in BASES and metric["unit"]["prefix"] in set("KMGTPE")
        )
        assert all(isinstance(metric[name], int | float) for name in ("avg", "min", "max"))
    for tag in job.get("tags", []):
        assert tag.keys() == {"type", "name"}
    assert all(isinstance(value, str) for value in job.get("metaData", {}).values())
    assert "id" not in job
    return job


def require(document: dict[str, Any], types: dict[str, type]) -> None:
    """Fail unless a document has these fields of these types."""
    assert types.keys() <= document.keys()
    assert all(type(document[name]) is type_ for name, type_ in types.items())
