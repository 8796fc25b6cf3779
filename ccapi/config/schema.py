"""The tables of a settings file, as marshmallow schemas."""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields as fields_of
from typing import Any, get_args

from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException
from marshmallow import EXCLUDE, Schema, ValidationError, fields, post_load, validates_schema

from ccapi.config.database_url import hide
from ccapi.config.settings import SECTIONS
from ccapi.config.validators import Rule, display, unexpected
from ccapi.model.cluster import Cluster, count_nodes, is_node_list, split_nodes
from ccapi.model.rules import is_name

MAX_NODES = 1_000_000


def suggest(key: str, known: Iterable[str]) -> str:
    """Return a hint: the known key most similar to an unknown one, else all known keys."""
    similar = difflib.get_close_matches(key, list(known), n=1)
    return f"; did you mean {similar[0]}?" if similar else f"; use one of {', '.join(known)}"


class _Table(Schema):
    """A table that suggests a known key for each unknown one."""

    class Meta:
        unknown = EXCLUDE

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def refuse_unknown_keys(self, _: object, original: Mapping[str, object], **__: object) -> None:
        unknown = [key for key in original if key not in self.fields]
        if unknown:
            raise ValidationError({k: [f"unknown key{suggest(k, self.fields)}"] for k in unknown})


class _Nested(fields.Nested):
    def _deserialize(self, value: object, *args: Any, **kwargs: Any) -> object:
        if not isinstance(value, dict):
            raise unexpected("a table", value)
        return super()._deserialize(value, *args, **kwargs)


class _TableArray(fields.List[Any]):
    """An array of tables with distinct names."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> list[Any]:
        if not isinstance(value, list):
            raise unexpected("an array of tables (in the environment: JSON)", value)
        tables = super()._deserialize(value, *args, **kwargs)
        names = [table["name"] for table in value]
        duplicate = next((name for name in names if names.count(name) > 1), None)
        if duplicate:
            raise unexpected("each name once", duplicate)
        return tables


def _expand(node_list: str) -> list[str]:
    """Return the hosts of a node list; count them first, because NodeSet holds all in memory."""
    if (count := count_nodes(node_list)) > MAX_NODES:
        raise ValidationError(f"expected at most {MAX_NODES:,} nodes, got {count:,}")
    try:
        parts = [NodeSet(part, resolver=RESOLVER_NOGROUP) for part in split_nodes(node_list)]
    except NodeSetException as error:
        raise ValidationError(f"expected nodes, got {display(node_list)}: {error}") from error
    return [host for part in parts for host in part]


_NAME = Rule(
    "a name of at most 64 letters, digits, . _ and -, not starting with . _ or -",
    lambda name: isinstance(name, str) and is_name(name),
)
# NodeSet itself also accepts groups, which can run commands, and wildcards and operators.
_NODES = Rule(
    "a node list such as f[0101-0188,0201]",
    lambda nodes: isinstance(nodes, str) and is_node_list(nodes),
    _expand,
)


class _ClusterTable(_Table):
    name = _NAME
    sub_clusters = _TableArray(_Nested(_Table.from_dict({"name": _NAME, "nodes": _NODES})))

    @post_load
    def build(self, table: Mapping[str, Any], **_: object) -> Cluster:
        sub_clusters = {sub["name"]: sub["nodes"] for sub in table.get("sub_clusters", ())}
        try:
            return Cluster.of(table["name"], sub_clusters)
        except ValueError as error:
            message = f"expected each node in one sub-cluster, {error}"
            raise ValidationError(message, "sub_clusters") from error


# The settings by dotted key, as fields of their dataclasses.
KEYS = {f"{name}.{f.name}": f for name, section in SECTIONS.items() for f in fields_of(section)}
_RULES = {
    name: {f.name: get_args(f.type)[1] for f in fields_of(section)}
    for name, section in SECTIONS.items()
}
SETTINGS = _Table.from_dict(
    {name: _Nested(_Table.from_dict(rules)) for name, rules in _RULES.items()}
    | {"clusters": _TableArray(_Nested(_ClusterTable))}
)


def flatten(errors: Mapping[Any, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Turn marshmallow's nested messages into pairs of a dotted key and a message."""
    for key, value in errors.items():
        step = f"[{key}]" if isinstance(key, int) else "." * bool(path) + quote_key(key)
        if isinstance(value, dict):
            yield from flatten(value, path + step)
        else:
            yield from ((path + step, message) for message in value)


def quote_key(key: str) -> str:
    """Return a key as TOML spells it."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(hide(key))
