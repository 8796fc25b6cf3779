"""meta.json as other programs and versions write it, put into this version's words.

`shared` in place of `exclusive`, Slurm's states that the contract does not have, zeros for
"not given", units as texts, null everywhere. What nobody here knows is left out, except
inside metaData, where it belongs.
"""

from collections.abc import Mapping
from typing import Any

from ccapi.model.job import SLURM_STATES

_EXCLUSIVE_OF = {"none": 1, "single_user": 2, "multi_user": 0}
_STATE_OF = {name.lower(): state.value for name, state in SLURM_STATES.items()}
_ABSENT_WHEN_ZERO = ("partition", "arrayJobId", "numHwthreads", "numAcc", "smt", "walltime")
_OF_RESOURCE = frozenset(("hostname", "hwthreads", "accelerators", "configuration"))
_OF_TAG = frozenset(("type", "name"))
_OF_STATISTICS = frozenset(("unit", "avg", "min", "max"))


def translate(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document's fields in our words; what is wrong stays so, for `decode` to find."""
    given = {name: value for name, value in document.items() if value is not None}
    if "exclusive" not in given and "shared" in given:
        given["exclusive"] = _EXCLUSIVE_OF.get(str(given["shared"]), "unknown")
    if isinstance(given.get("jobState"), str):
        given["jobState"] = _STATE_OF.get(given["jobState"], given["jobState"])
    for name in _ABSENT_WHEN_ZERO:
        if given.get(name) in ("", 0) and type(given[name]) is not bool:
            del given[name]
    if isinstance(given.get("resources"), list):
        given["resources"] = [_only(_OF_RESOURCE, item) for item in given["resources"]]
    if isinstance(given.get("tags"), list):
        given["tags"] = _without_scopes(given["tags"])
    if isinstance(given.get("statistics"), dict):
        metrics = given["statistics"].items()
        given["statistics"] = {name: _with_unit(values) for name, values in metrics}
    return given


def _only(known: frozenset[str], item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    return {key: value for key, value in item.items() if key in known and value is not None}


def _without_scopes(tags: list[Any]) -> list[Any]:
    """Drop what tells a tag's scope, and then what is there twice."""
    plain = [_only(_OF_TAG, tag) for tag in tags]
    if plain == tags:
        return tags
    return [tag for number, tag in enumerate(plain) if tag not in plain[:number]]


def _with_unit(values: Any) -> Any:
    values = _only(_OF_STATISTICS, values)
    if isinstance(values, dict) and isinstance(values.get("unit"), str):
        values["unit"] = {"base": values["unit"]}
    return values
