"""Translate the dialects of other programs and versions to this version's fields of a job.

The API and the archive share it: a form that one understands, the other understands, too.
Values of a wrong type are returned unchanged; the caller's rules refuse them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ccapi.errors import InvalidInput
from ccapi.model.job import (
    FINAL_STATES,
    JOB_META_FIELDS,
    PLAIN_FIELDS,
    SHARED,
    SLURM_STATES,
    JobState,
)
from ccapi.model.rules import match_keys

_JOB_FIELDS = frozenset(("concurrentJobs", *(field.name for field in JOB_META_FIELDS)))
_RESOURCE_FIELDS = frozenset(("hostname", "hwthreads", "accelerators", "configuration"))
_TAG_FIELDS = frozenset(("id", "type", "name", "scope"))
_STATISTICS_FIELDS = frozenset(("unit", "avg", "min", "max"))
_UNIT_FIELDS = frozenset(("base", "prefix"))
# Clients written in Go send 0, "" and {} for "not given"; False is a wrong type.
_EMPTY_TYPES: dict[str, set[type]] = {
    **{
        field.name: {field.rule.json_type}
        for field in PLAIN_FIELDS
        if not field.is_required and field.default is None
    },
    "energy": {int, float},
    "footprint": {dict},
    "energyFootprint": {dict},
    "jobState": {str},
    "shared": {str},
}
_EXCLUSIVE = {shared: exclusive for exclusive, shared in SHARED.items()}
_SLURM_MCS = 3
_STATES = {
    **{name.lower(): state.value for name, state in SLURM_STATES.items()},
    **{state.value: state.value for state in JobState},
}
_PREFIXES = frozenset("KMGTPE")
_BASES = frozenset(("B", "F", "B/s", "F/s", "CPI", "IPC", "Hz", "W", "°C", ""))


def translate_job(document: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the fields of a JobMeta, and the names of unknown fields, at any depth, once each.

    Raises InvalidInput for two spellings of one name, an unknown `shared`, and one that
    contradicts `exclusive`.
    """
    fields, ignored = match_keys(document, _JOB_FIELDS)
    fields.pop("concurrentJobs", None)
    fields = {
        name: value
        for name, value in fields.items()
        if value or type(value) not in _EMPTY_TYPES.get(name, ())
    }
    _translate_shared(fields)
    if type(fields.get("jobState")) is str:
        fields["jobState"] = translate_state(fields["jobState"])
    if type(fields.get("resources")) is list:
        fields["resources"] = [
            _match(node, _RESOURCE_FIELDS, ignored) for node in fields["resources"]
        ]
    if type(fields.get("tags")) is list:
        fields["tags"], unknown = translate_tags(fields["tags"])
        ignored += unknown
    if type(fields.get("statistics")) is dict:
        fields["statistics"], unknown = translate_statistics(fields["statistics"])
        ignored += unknown
    return fields, list(dict.fromkeys(ignored))


def _match(item: Any, names: frozenset[str], ignored: list[str]) -> Any:
    """Return an object's fields and collect its unknown keys; may return the item itself."""
    if type(item) is not dict or (item.keys() <= names and None not in item.values()):
        return item
    fields, unknown = match_keys(item, names)
    ignored += unknown
    return fields


def _translate_shared(fields: dict[str, Any]) -> None:
    """Replace `shared` by `exclusive`."""
    is_integer = type(fields.get("exclusive")) is int
    if is_integer and fields["exclusive"] == _SLURM_MCS:
        fields["exclusive"] = _EXCLUSIVE["single_user"]
    shared = fields.pop("shared", None)
    if shared is None:
        return
    if type(shared) is not str or shared not in _EXCLUSIVE:
        raise InvalidInput.of("shared", f"must be {' or '.join(sorted(_EXCLUSIVE))}")
    exclusive = fields.setdefault("exclusive", _EXCLUSIVE[shared])
    if is_integer and exclusive != _EXCLUSIVE[shared]:
        expected = f"{shared} means exclusive {_EXCLUSIVE[shared]}, not {exclusive}; send only one"
        raise InvalidInput.of("shared", expected)


def translate_tags(tags: Sequence[Any]) -> tuple[list[Any], list[str]]:
    """Return tags without scopes, each tag of several scopes once, and their unknown fields."""
    ignored: list[str] = []
    scoped: set[tuple[str, str]] = set()
    translated: list[Any] = []
    for item in tags:
        tag = _match(item, _TAG_FIELDS, ignored)
        match tag:
            case {"scope": _, "type": str(type_), "name": str(name)}:
                if (type_, name) in scoped:
                    continue
                scoped.add((type_, name))
        if type(tag) is dict and "scope" in tag:
            tag = {name: value for name, value in tag.items() if name != "scope"}
        translated.append(tag)
    return translated, list(dict.fromkeys(ignored))


def translate_statistics(statistics: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return statistics whose units are strings, and their unknown fields."""
    ignored: list[str] = []
    translated: dict[str, Any] = {}
    for metric, item in statistics.items():
        values = _match(item, _STATISTICS_FIELDS, ignored)
        if type(values) is dict and type(values.get("unit")) is dict:
            unit = _match(values["unit"], _UNIT_FIELDS, ignored)
            if type(unit.get("base")) is str and type(unit.get("prefix", "")) is str:
                values = {**values, "unit": join_unit(unit)}
        translated[metric] = values
    return translated, list(dict.fromkeys(ignored))


def translate_state(state: str) -> str:
    """Return the contract's word for a state in any case, also Slurm's "CANCELLED by 1000".

    An unknown state is returned unchanged.
    """
    word = state.lower()
    if word.startswith("cancelled by "):
        return JobState.CANCELLED.value
    return _STATES.get(word, state)


def final_state(state: object) -> str:
    """Return the contract's word for a state in which a job ends; raises InvalidInput."""
    word = translate_state(state) if isinstance(state, str) else None
    if word not in FINAL_STATES:
        raise InvalidInput.of("jobState", f"must be {' or '.join(FINAL_STATES)}")
    return word


def split_unit(unit: str) -> dict[str, str]:
    """Split a unit into prefix and base: GB/s is {"prefix": "G", "base": "B/s"}.

    A unit with an unknown base is not split.
    """
    if unit not in _BASES and unit[0] in _PREFIXES and unit[1:] in _BASES:
        return {"prefix": unit[0], "base": unit[1:]}
    return {"base": unit}


def join_unit(unit: Mapping[str, str]) -> str:
    """Join prefix and base: the inverse of `split_unit`."""
    return unit.get("prefix", "") + unit["base"]
