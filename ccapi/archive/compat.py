"""Translate the meta.json of other programs and versions to this version's fields.

They write `shared` for `exclusive`, Slurm's names of states, and zeros and nulls for "not
given". Unknown fields are dropped, except in metaData.
"""

from collections.abc import Mapping
from typing import Any

from ccapi.model.job import PLAIN_FIELDS, SLURM_STATES

_EXCLUSIVE = {"none": 1, "single_user": 2, "multi_user": 0}
_STATES = {name.lower(): state.value for name, state in SLURM_STATES.items()}
_OPTIONAL = [
    field.name for field in PLAIN_FIELDS if not field.is_required and field.default is None
]
_RESOURCE_FIELDS = frozenset(("hostname", "hwthreads", "accelerators", "configuration"))
_TAG_FIELDS = frozenset(("type", "name"))
_STATISTICS_FIELDS = frozenset(("unit", "avg", "min", "max"))


def translate(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document with this version's fields; `decode` checks their types."""
    fields = {name: value for name, value in document.items() if value is not None}
    if "exclusive" not in fields and "shared" in fields:
        fields["exclusive"] = _EXCLUSIVE.get(str(fields["shared"]), "unknown")
    if isinstance(fields.get("jobState"), str):
        fields["jobState"] = _STATES.get(fields["jobState"], fields["jobState"])
    for name in _OPTIONAL:
        if fields.get(name) in ("", 0) and type(fields[name]) is not bool:
            del fields[name]
    if isinstance(fields.get("resources"), list):
        fields["resources"] = [_pick(_RESOURCE_FIELDS, node) for node in fields["resources"]]
    if isinstance(fields.get("tags"), list):
        fields["tags"] = _drop_scopes(fields["tags"])
    if isinstance(fields.get("statistics"), dict):
        fields["statistics"] = {
            metric: _pick(_STATISTICS_FIELDS, values)
            for metric, values in fields["statistics"].items()
        }
    return fields


def _pick(names: frozenset[str], item: Any) -> Any:
    """Return an object's fields with these names; other types are returned unchanged."""
    if not isinstance(item, dict):
        return item
    return {key: value for key, value in item.items() if key in names and value is not None}


def _drop_scopes(tags: list[Any]) -> list[Any]:
    """Return tags without their scopes, and each tag of several scopes once."""
    plain = [_pick(_TAG_FIELDS, tag) for tag in tags]
    if plain == tags:
        return tags
    return [tag for index, tag in enumerate(plain) if tag not in plain[:index]]
