"""The settings: a TOML file and the environment, checked, as one frozen Config.

A setting is declared once, as a field of its section's dataclass: its default and the
rule for its value. The schema, the variables' names and describe() follow from it.
"""

import difflib
import json
import math
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Annotated, Any, get_args

from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException
from marshmallow import EXCLUDE, Schema, ValidationError, fields, post_load, validates_schema

from ccapi.errors import StartupError
from ccapi.model.cluster import Cluster, Clusters, count_nodes, is_name, is_node_list, split_nodes

MASK = "********"
MOST_NODES = 1_000_000
_Check = Callable[[Any], Any]


class _Rule(fields.Field[Any]):
    """What a value must be: `expected` in words, `accepts` as a test; nothing is coerced."""

    def __init__(self, expected: str, accepts: _Check, convert: _Check = lambda v: v) -> None:
        super().__init__(required=True)
        nothing = f"expected {expected}, got nothing"
        self.error_messages |= {"required": nothing, "null": nothing}
        self.expected, self.accepts, self.convert = expected, accepts, convert

    def _deserialize(self, value: object, *_: object, **__: object) -> object:
        _expect(self.expected, value, is_met=self.accepts(value))
        return self.convert(value)


def _expect(expected: str, value: object, *, is_met: bool) -> None:
    if not is_met:
        raise ValidationError(f"expected {expected}, got {_shown(value)}")


def _shown(value: object) -> str:
    """Show a wrong value within one line and without secrets."""
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "an array"
    text = json.dumps(masked(value) if isinstance(value, str) else value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _whole(minimum: int, maximum: float = math.inf) -> _Rule:
    """Rule an integer; true is none."""
    limits = f"of at least {minimum}" if maximum == math.inf else f"from {minimum} to {maximum}"
    return _Rule(f"an integer {limits}", lambda n: type(n) is int and minimum <= n <= maximum)


_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_LEVEL = _Rule(f"one of {', '.join(_LEVELS)}", _LEVELS.__contains__)
_LINE = _Rule("a line of text", lambda v: isinstance(v, str) and v != "" and v.isprintable())
# A URL in a path's place is a mistake, and may hold a password.
_PATH = _Rule("a path", lambda v: _LINE.accepts(v) and "://" not in v, Path)
# Below a millisecond PostgreSQL would read "no limit".
_SECONDS = _Rule(
    "seconds from 0.001 to 86400", lambda n: type(n) in (int, float) and 0.001 <= n <= 86_400, float
)


@dataclass(frozen=True)
class Server:
    """What a request may be."""

    max_body_bytes: Annotated[int, _whole(1024)] = 8 * 2**20


@dataclass(frozen=True)
class Database:
    """How to reach PostgreSQL; timeouts are seconds. `url` holds what `url_file` says, too."""

    url: Annotated[str, _LINE] = field(default="postgresql:///ccapi", repr=False)
    url_file: Annotated[Path | None, _PATH] = None
    pool_size: Annotated[int, _whole(1)] = 4
    connect_timeout: Annotated[float, _SECONDS] = 3.0
    pool_timeout: Annotated[float, _SECONDS] = 3.0
    statement_timeout: Annotated[float, _SECONDS] = 10.0
    lock_timeout: Annotated[float, _SECONDS] = 5.0


@dataclass(frozen=True)
class Archive:
    """Where the job archive is; load() makes the path absolute."""

    root: Annotated[Path, _PATH] = Path("var/job-archive")


@dataclass(frozen=True)
class Jobs:
    """What counts as the same job."""

    duplicate_window: Annotated[int, _whole(0, 2**31 - 1)] = 60


@dataclass(frozen=True)
class Log:
    """What is logged."""

    level: Annotated[str, _LEVEL] = "INFO"


@dataclass(frozen=True)
class Config:
    """All settings in force; `sources` says of each key: default, file or environment."""

    server: Server = field(default_factory=Server)
    database: Database = field(default_factory=Database)
    archive: Archive = field(default_factory=Archive)
    jobs: Jobs = field(default_factory=Jobs)
    log: Log = field(default_factory=Log)
    clusters: Clusters = field(default_factory=Clusters)
    sources: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)


# All fields but clusters and sources.
_SECTIONS: dict[str, Any] = {f.name: f.type for f in fields_of(Config)[:-2]}


class _Table(Schema):
    """A table in which an unknown key is an error that names the nearest known one."""

    class Meta:
        unknown = EXCLUDE

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def refuse_unknown_keys(self, _: object, original: Mapping[str, object], **__: object) -> None:
        unknown = [key for key in original if key not in self.fields]
        if unknown:
            raise ValidationError({k: [f"unknown key{_hint(k, self.fields)}"] for k in unknown})


class _Nested(fields.Nested):
    def _deserialize(self, value: object, *args: Any, **kwargs: Any) -> object:
        _expect("a table", value, is_met=isinstance(value, dict))
        return super()._deserialize(value, *args, **kwargs)


class _Tables(fields.List[Any]):
    """An array of tables that each have a name of their own."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> list[Any]:
        _expect(
            "an array of tables (in the environment: JSON)", value, is_met=isinstance(value, list)
        )
        tables = super()._deserialize(value, *args, **kwargs)
        names = [table["name"] for table in value]
        twice = next((name for name in names if names.count(name) > 1), None)
        _expect("each name once", twice, is_met=twice is None)
        return tables


def _hosts(node_list: str) -> list[str]:
    """Expand a node list; counted first, for NodeSet keeps every host in memory."""
    if (count := count_nodes(node_list)) > MOST_NODES:
        raise ValidationError(f"expected at most {MOST_NODES:,} nodes, got {count:,}")
    try:
        parts = [NodeSet(part, resolver=RESOLVER_NOGROUP) for part in split_nodes(node_list)]
    except NodeSetException as error:
        raise ValidationError(f"expected nodes, got {_shown(node_list)}: {error}") from error
    return [host for part in parts for host in part]


_NAME = _Rule(
    "a name of at most 64 letters, digits, . _ and -, not starting with . _ or -",
    lambda name: isinstance(name, str) and is_name(name),
)
# NodeSet itself would also take groups, which can run commands, wildcards and operators.
_NODES = _Rule(
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


_KEYS = {f"{name}.{f.name}": f for name, section in _SECTIONS.items() for f in fields_of(section)}
_RULES = {
    name: {f.name: get_args(f.type)[1] for f in fields_of(section)}
    for name, section in _SECTIONS.items()
}
_SETTINGS = _Table.from_dict(
    {name: _Nested(_Table.from_dict(rules)) for name, rules in _RULES.items()}
    | {"clusters": _Tables(_Nested(_ClusterTable))}
)


def _json(text: str) -> object:
    """Read a number or an array; other text is left for its rule to refuse."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _variable(key: str) -> str:
    """Name the environment variable of a dotted key; an index within it stays."""
    name, bracket, rest = key.partition("[")
    return f"CCAPI_{name.replace('.', '_').upper()}{bracket}{rest}"


_VARIABLES = {_variable(key): key for key in (*_KEYS, "clusters")}
_TEXTS = {key for key, f in _KEYS.items() if get_args(f.type)[0] not in (int, float)}


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """Read the settings: the environment's go before the file's, these before the defaults.

    The file is `path`, else $CCAPI_CONFIG, else ./config.toml if there is one. Raises
    StartupError, which lists every problem on a line of its own.
    """
    path = path or _settings_file(environ)
    problems: list[str] = []
    layers = {
        "default": {key: f.default for key, f in _KEYS.items()} | {"clusters": []},
        "file": _from_file(path, problems) if path else {},
        "environment": _from_environment(environ, problems),
    }
    if problems:
        raise StartupError("\n".join(problems))
    values, sources = _in_force(layers)
    if values["database.url_file"]:
        origin = path if sources["database.url_file"] == "file" else None
        values["database.url"] = _read_url(values["database.url_file"], origin)
    sections = {
        name: section(**{f.name: values[f"{name}.{f.name}"] for f in fields_of(section)})
        for name, section in _SECTIONS.items()
    }
    return Config(**sections, clusters=Clusters(tuple(values["clusters"])), sources=sources)


def _settings_file(environ: Mapping[str, str]) -> Path | None:
    """Find the settings file; a dangling link counts, so that it is reported."""
    path = Path(environ.get("CCAPI_CONFIG", "config.toml"))
    is_meant = "CCAPI_CONFIG" in environ or path.exists() or path.is_symlink()
    return path if is_meant else None


def _from_file(path: Path, problems: list[str]) -> dict[str, Any]:
    """Return the values of the settings file by dotted key."""
    try:
        with path.open("rb") as file:
            return _checked(tomllib.load(file), path, problems)
    except OSError as error:
        problems.append(f"{path}: cannot be read: {error.strerror}")
    except (ValueError, RecursionError) as error:
        problems.append(f"{path}: not valid TOML: {error}")
    return {}


def _from_environment(environ: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
    """Return the variables' values by dotted key; an unknown CCAPI_ variable is a typo."""
    data: dict[str, Any] = {}
    for name, text in environ.items():
        if name in _VARIABLES:
            section, _, key = _VARIABLES[name].partition(".")
            value = text if _VARIABLES[name] in _TEXTS else _json(text)
            data[section] = data.get(section, {}) | {key: value} if key else value
        elif name.startswith("CCAPI_") and name not in ("CCAPI_CONFIG", "CCAPI_PG_BIN"):
            hint = _hint(name, _VARIABLES)
            problems.append(f"environment: {_quoted(name)}: unknown variable{hint}")
    return _checked(data, None, problems)


def _checked(data: Mapping[str, Any], path: Path | None, problems: list[str]) -> dict[str, Any]:
    """Check what a source says, and flatten it; paths in a file start at its directory."""
    database = data.get("database")
    if isinstance(database, dict) and database.keys() >= {"url", "url_file"}:
        where = _where(path, "database.url_file")
        problems.append(f"{where}: expected either url or url_file, got both")
    try:
        tables = _SETTINGS().load(data, partial=tuple(_KEYS))  # these have defaults
    except ValidationError as error:
        problems += [f"{_where(path, key)}: {what}" for key, what in _flat(error.messages_dict)]
        return {}
    base = path.parent if path else Path()
    values = {"clusters": tables.pop("clusters")} if "clusters" in tables else {}
    for section, table in tables.items():
        for name, value in table.items():
            values[f"{section}.{name}"] = base / value if isinstance(value, Path) else value
    return values


def _where(path: Path | None, key: str) -> str:
    """Say where a key was given: in a file, else in the environment."""
    return f"{path}: {key}" if path else f"environment: {_variable(key)}"


def _flat(errors: Mapping[Any, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Turn marshmallow's nested messages into pairs of a dotted key and a message."""
    for key, found in errors.items():
        step = f"[{key}]" if isinstance(key, int) else "." * bool(path) + _quoted(key)
        if isinstance(found, dict):
            yield from _flat(found, path + step)
        else:
            yield from ((path + step, message) for message in found)


def _quoted(key: str) -> str:
    """Spell a key as TOML does."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)


def _hint(key: str, known: Iterable[str]) -> str:
    """Suggest the known key that was probably meant, else all."""
    near = difflib.get_close_matches(key, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"


def _in_force(layers: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the last value and source of each key; url and url_file override each other."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, layer in layers.items():
        if "database.url" in layer or "database.url_file" in layer:
            values |= {"database.url": None, "database.url_file": None}
            sources |= {"database.url": source, "database.url_file": source}
        values |= {k: v.absolute() if isinstance(v, Path) else v for k, v in layer.items()}
        sources |= dict.fromkeys(layer, source)
    return values, sources


def _read_url(url_file: Path, path: Path | None) -> str:
    """Read the database's URL from the file that a setting names; no error shows its content."""
    problem = "expected a line of text in UTF-8"
    try:
        if _LINE.accepts(url := url_file.read_text("utf-8").strip()):
            return url
    except (OSError, UnicodeDecodeError) as error:
        problem = getattr(error, "strerror", problem)
    raise StartupError(f"{_where(path, 'database.url_file')}: {url_file}: {problem}")


_URL = re.compile(r"postgres(ql)?://([^:@/]*(:[^@/]*)?@)?[^@?]*(\?\w+=[^&]*(&\w+=[^&]*)*)?")
_CONFIDENTIAL = r"(?:\w*password|\w*secret|scram_\w+_key)"


def masked(url: str) -> str:
    """Return a database's URL or keyword/value text with its secrets as asterisks.

    Whatever else holds `://` is masked from there, because libpq's reading is unknown.
    """
    if _URL.fullmatch(url):
        url = re.sub(r"^(\w+://[^:@/]*:)[^@/]*@", rf"\1{MASK}@", url)
        return re.sub(rf"([?&]{_CONFIDENTIAL}=)[^&]*", rf"\1{MASK}", url)
    value = r"(?:'(?:\\.|[^'\\])*'?|(?:\\.|[^\s\\])*)"
    text = re.sub(rf"(\b{_CONFIDENTIAL}\s*=\s*){value}", rf"\1{MASK}", url)
    scheme, mark, _ = text.partition("://")
    return f"{scheme}{mark}{MASK}" if mark else text


def describe(config: Config) -> str:
    """Write the settings in force as TOML, with their sources, and secrets masked."""
    source = config.sources.get("clusters", "default")
    lines = [] if config.clusters else [f"clusters = []  # {source}"]
    for section in _SECTIONS:
        lines += ["", f"[{section}]", *_described(config, section)]
    for cluster in config.clusters.described:
        lines += ["", "[[clusters]]", f'name = "{cluster.name}"  # {source}']
        for name, hosts in cluster.sub_clusters.items():
            nodes = NodeSet.fromlist(hosts, resolver=RESOLVER_NOGROUP)
            lines += ["[[clusters.sub_clusters]]", f'name = "{name}"', f'nodes = "{nodes}"']
    return "\n".join(lines).strip() + "\n"


def _described(config: Config, section: str) -> Iterator[str]:
    """Write the keys of a section; a url that came from a file is a comment."""
    for name, value in vars(getattr(config, section)).items():
        if value is not None:
            key = f"{section}.{name}"
            text = masked(value) if key == "database.url" else value
            if not isinstance(text, int | float):
                text = json.dumps(str(text), ensure_ascii=False)
            hidden = "# " if key == "database.url" and config.database.url_file else ""
            yield f"{hidden}{name} = {text}  # {config.sources.get(key, 'default')}"
