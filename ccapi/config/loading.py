"""From a file and the environment to the settings in force."""

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any, get_args

from marshmallow import ValidationError

from ccapi.config.schema import KEYS, SETTINGS, flat, hint, quoted
from ccapi.config.settings import SECTIONS, URLS, Config
from ccapi.config.validators import LINE, masked
from ccapi.errors import StartupError
from ccapi.model.cluster import Clusters

_HINT = "see that it is there, and that the service's user may read it"


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


_VARIABLES = {_variable(key): key for key in (*KEYS, "clusters")}
_TEXTS = {key for key, f in KEYS.items() if get_args(f.type)[0] not in (int, float)}


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """Read the settings: the environment's go before the file's, these before the defaults.

    The file is `path`, else $CCAPI_CONFIG, else ./config.toml if there is one. Raises
    StartupError, which lists every problem on a line of its own.
    """
    path = path or _settings_file(environ)
    problems: list[str] = []
    layers = {
        "default": {key: f.default for key, f in KEYS.items()} | {"clusters": []},
        "file": _from_file(path, problems) if path else {},
        "environment": _from_environment(environ, problems),
    }
    if problems:
        raise StartupError("\n".join(problems))
    values, sources = _in_force(layers)
    for key in URLS:
        if values[f"{key}_file"]:
            origin = path if sources[f"{key}_file"] == "file" else None
            values[key] = _url_from_file(key, values[f"{key}_file"], origin)
    sections = {
        name: section(**{f.name: values[f"{name}.{f.name}"] for f in fields_of(section)})
        for name, section in SECTIONS.items()
    }
    return Config(
        **sections,
        clusters=Clusters(tuple(values["clusters"])),
        sources=sources,
        secret_files=tuple(_secret_files(path, values, sources)),
    )


def _secret_files(
    path: Path | None, values: Mapping[str, Any], sources: Mapping[str, str]
) -> Iterator[Path]:
    """Name the files that a database's password was read from."""
    for key in URLS:
        if values[key] and masked(values[key]) != values[key]:
            if values[f"{key}_file"]:
                yield values[f"{key}_file"]
            elif path and sources[key] == "file":
                yield path


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
        problems.append(f"{path}: cannot be read: {error.strerror}; {_HINT}")
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
            meant = hint(name, _VARIABLES)
            problems.append(f"environment: {quoted(name)}: unknown variable{meant}")
    return _checked(data, None, problems)


def _checked(data: Mapping[str, Any], path: Path | None, problems: list[str]) -> dict[str, Any]:
    """Check what a source says, and flatten it; paths in a file start at its directory."""
    for key in URLS:
        section, _, name = key.partition(".")
        table = data.get(section)
        if isinstance(table, dict) and table.keys() >= {name, f"{name}_file"}:
            where = _where(path, f"{key}_file")
            problems.append(f"{where}: expected either {name} or {name}_file, got both")
    try:
        tables = SETTINGS().load(data, partial=tuple(KEYS))  # these have defaults
    except ValidationError as error:
        problems += [f"{_where(path, key)}: {what}" for key, what in flat(error.messages_dict)]
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


def _in_force(layers: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the last value and source of each key; a URL and its file override each other."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, layer in layers.items():
        for key in URLS:
            if key in layer or f"{key}_file" in layer:
                values |= {key: None, f"{key}_file": None}
                sources |= {key: source, f"{key}_file": source}
        values |= {k: v.absolute() if isinstance(v, Path) else v for k, v in layer.items()}
        sources |= dict.fromkeys(layer, source)
    return values, sources


def _url_from_file(key: str, url_file: Path, path: Path | None) -> str:
    """Read a database's URL from the file that a setting names; no error shows its content."""
    problem = "expected a line of text in UTF-8"
    try:
        if LINE.accepts(url := url_file.read_text("utf-8").strip()):
            return url
    except OSError as error:
        problem = f"{error.strerror}; {_HINT}"
    except UnicodeDecodeError:
        pass
    raise StartupError(f"{_where(path, f'{key}_file')}: {url_file}: {problem}")
