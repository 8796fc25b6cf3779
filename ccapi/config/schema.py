"""The tables that a settings file may hold."""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields as fields_of
from typing import Any, get_args

from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException
from marshmallow import EXCLUDE, Schema, ValidationError, fields, post_load, validates_schema

from ccapi.config.settings import SECTIONS
from ccapi.config.validators import Rule, expect, shown
from ccapi.model.cluster import Cluster, count_nodes, is_node_list, split_nodes
from ccapi.model.rules import is_name

MOST_NODES = 1_000_000


def hint(key: str, known: Iterable[str]) -> str:
    """Suggest the known key that was probably meant, else all."""
    near = difflib.get_close_matches(key, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"


class _Table(Schema):
    """A table in which an unknown key is an error that names the nearest known one."""

    class Meta:
        unknown = EXCLUDE

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def refuse_unknown_keys(self, _: object, original: Mapping[str, object], **__: object) -> None:
        unknown = [key for key in original if key not in self.fields]
        if unknown:
            raise ValidationError({k: [f"unknown key{hint(k, self.fields)}"] for k in unknown})


class _Nested(fields.Nested):
    def _deserialize(self, value: object, *args: Any, **kwargs: Any) -> object:
        expect("a table", value, is_met=isinstance(value, dict))
        return super()._deserialize(value, *args, **kwargs)


class _Tables(fields.List[Any]):
    """An array of tables that each have a name of their own."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> list[Any]:
        expect(
            "an array of tables (in the environment: JSON)", value, is_met=isinstance(value, list)
        )
        tables = super()._deserialize(value, *args, **kwargs)
        names = [table["name"] for table in value]
        twice = next((name for name in names if names.count(name) > 1), None)
        expect("each name once", twice, is_met=twice is None)
        return tables


def _hosts(node_list: str) -> list[str]:
    """Expand a node list; counted first, for NodeSet keeps every host in memory."""
    if (count := count_nodes(node_list)) > MOST_NODES:
        raise ValidationError(f"expected at most {MOST_NODES:,} nodes, got {count:,}")
    try:
        parts = [NodeSet(part, resolver=RESOLVER_NOGROUP) for part in split_nodes(node_list)]
    except NodeSetException as error:
        raise ValidationError(f"expected nodes, got {shown(node_list)}: {error}") from error
    return [host for part in parts for host in part]


_NAME = Rule(
    "a name of at most 64 letters, digits, . _ and -, not starting with . _ or -",
    lambda name: isinstance(name, str) and is_name(name),
)
# NodeSet itself would also take groups, which can run commands, wildcards and operators.
_NODES = Rule(
    "a node list such as f[0101-0188,0201]",
    lambda nodes: isinstance(nodes, str) and is_node_list(nodes),
    _hosts,
)


class _ClusterTable(_Table):
    name = _NAME
    sub_clusters = _Tables(_Nested(_Table.from_dict({"name": _NAME, "nodes": _NODES})))

    @post_load
    def build(self, table: Mapping[str, Any], **_: object) -> Cluster:
        sub_clusters = {sub["name"]: sub["nodes"] for sub in table.get("sub_clusters", ())}
        try:
            return Cluster.of(table["name"], sub_clusters)
        except ValueError as error:
            message = f"expected each node in one sub-cluster, {error}"
            raise ValidationError(message, "sub_clusters") from error


KEYS = {f"{name}.{f.name}": f for name, section in SECTIONS.items() for f in fields_of(section)}
_RULES = {
    name: {f.name: get_args(f.type)[1] for f in fields_of(section)}
    for name, section in SECTIONS.items()
}
SETTINGS = _Table.from_dict(
    {name: _Nested(_Table.from_dict(rules)) for name, rules in _RULES.items()}
    | {"clusters": _Tables(_Nested(_ClusterTable))}
)


def flat(errors: Mapping[Any, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Turn marshmallow's nested messages into pairs of a dotted key and a message."""
    for key, found in errors.items():
        step = f"[{key}]" if isinstance(key, int) else "." * bool(path) + quoted(key)
        if isinstance(found, dict):
            yield from flat(found, path + step)
        else:
            yield from ((path + step, message) for message in found)


def quoted(key: str) -> str:
    """Spell a key as TOML does."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)
