"""Version 3 of meta.json: what its readers refuse is replaced, and the true values stay beside it.

The true values are in the key `ccapi`, which other programs pass over; `restore` puts them back.
A document of version 1 has no such key.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ccapi.archive.cluster_json import DEFAULT_SUB_CLUSTER
from ccapi.model.job import SHARED, JobState

_TRUE_VALUES = "ccapi"
# The family's readers hold these in 32 bits.
_MAX_INT32 = 2**31 - 1
_INT32_FIELDS = ("duration", "numNodes", "numHwthreads", "numAcc", "smt")
_REPLACED_FIELDS = {"jobState", "subCluster", "shared", "requestedMemory", *_INT32_FIELDS}
_DEFAULT_EXCLUSIVE = 1


def adapt(document: dict[str, Any], sub_clusters: Sequence[str]) -> None:
    """Make a document of version 1 one of version 3.

    `sub_clusters` are the names in the cluster's cluster.json; readers know no others, so the
    first one stands for all others. Without any, only an empty name is replaced.
    """
    replacements = _replacements(document, sub_clusters)
    true_values = {name: document.get(name) for name in replacements}
    _set(document, replacements)
    if true_values:
        document[_TRUE_VALUES] = true_values


def restore(document: dict[str, Any]) -> None:
    """Make a document of version 3 one of version 1: the inverse of `adapt`."""
    true_values = document.pop(_TRUE_VALUES, None)
    if isinstance(true_values, dict):
        _set(document, {name: true_values[name] for name in _REPLACED_FIELDS & true_values.keys()})


def _replacements(document: Mapping[str, Any], sub_clusters: Sequence[str]) -> dict[str, Any]:
    """Return what replaces values that readers refuse; None if they refuse any value."""
    replacements: dict[str, Any] = {
        name: _MAX_INT32
        for name in _INT32_FIELDS
        if type(document.get(name)) is int and document[name] > _MAX_INT32
    }
    sub_cluster = document.get("subCluster")
    known = sub_clusters or (sub_cluster or DEFAULT_SUB_CLUSTER,)
    if sub_cluster not in known:
        replacements["subCluster"] = known[0]
    if document.get("jobState") == JobState.STOPPED:
        replacements["jobState"] = JobState.CANCELLED.value
    if "shared" not in document:
        exclusive = document.get("exclusive", _DEFAULT_EXCLUSIVE)
        replacements["shared"] = SHARED.get(exclusive, SHARED[_DEFAULT_EXCLUSIVE])
    if document.get("requestedMemory") == 0:
        replacements["requestedMemory"] = None
    return replacements


def _set(document: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Set values of a document; None removes a value."""
    for name, value in values.items():
        if value is None:
            document.pop(name, None)
        else:
            document[name] = value
