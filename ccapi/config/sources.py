"""Where settings come from: a TOML file and the environment."""

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from marshmallow import ValidationError

from ccapi.config.database_url import hide
from ccapi.config.schema import KEYS, SETTINGS, flatten, quote_key, suggest
from ccapi.config.settings import URLS

READ_HINT = "see that it exists, and that the service's user may read it"
# Variables that other parts of ccapi read.
_OTHER_VARIABLES = ("CCAPI_CONFIG", "CCAPI_PG_BIN")


def _variable(key: str) -> str:
    """Return the environment variable of a dotted key, with an index unchanged."""
    name, bracket, rest = key.partition("[")
    return f"CCAPI_{name.replace('.', '_').upper()}{bracket}{rest}"


_KEYS_BY_VARIABLE = {_variable(key): key for key in (*KEYS, "clusters")}
_TEXT_KEYS = {key for key, f in KEYS.items() if get_args(f.type)[0] not in (bool, int, float)}


def default_file(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return $CCAPI_CONFIG, else ./config.toml if it exists; a dangling link counts as existing."""
    path = Path(environ.get("CCAPI_CONFIG", "config.toml"))
    return path if "CCAPI_CONFIG" in environ or path.exists() or path.is_symlink() else None


def location(path: Path | None, key: str) -> str:
    """Return where a key was set, for a message; without a path it was in the environment."""
    return f"{path}: {key}" if path else f"environment: {_variable(key)}"


def read_file(path: Path, problems: list[str]) -> dict[str, Any]:
    """Return the values of the settings file by dotted key; append to `problems`."""
    try:
        with path.open("rb") as file:
            return _validate(tomllib.load(file), path, problems)
    except OSError as error:
        problems.append(f"{path}: cannot be read: {error.strerror}; {READ_HINT}")
    except (ValueError, RecursionError) as error:
        problems.append(f"{path}: not valid TOML: {hide(str(error))}")
    return {}


def read_environment(environ: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
    """Return the values of the CCAPI_ variables by dotted key; append to `problems`.

    An unknown CCAPI_ variable is a problem, because it is probably misspelt.
    """
    data: dict[str, Any] = {}
    for name, text in environ.items():
        if name in _KEYS_BY_VARIABLE:
            value: object = text
            section, _, key = _KEYS_BY_VARIABLE[name].partition(".")
            if _KEYS_BY_VARIABLE[name] not in _TEXT_KEYS:
                try:
                    value = json.loads(text)
                except (ValueError, RecursionError):
                    value = text  # which the rule of the setting refuses
            data[section] = data.get(section, {}) | {key: value} if key else value
        elif name.startswith("CCAPI_") and name not in _OTHER_VARIABLES:
            suggestion = suggest(name, _KEYS_BY_VARIABLE)
            problems.append(f"environment: {quote_key(name)}: unknown variable{suggestion}")
    return _validate(data, None, problems)


def _validate(data: Mapping[str, Any], path: Path | None, problems: list[str]) -> dict[str, Any]:
    """Validate and flatten the tables of a source; paths in a file start at its directory."""
    for key in URLS:
        section, _, name = key.partition(".")
        table = data.get(section)
        if isinstance(table, dict) and table.keys() >= {name, f"{name}_file"}:
            where = location(path, f"{key}_file")
            problems.append(f"{where}: expected either {name} or {name}_file, got both")
    try:
        tables = SETTINGS().load(data, partial=tuple(KEYS))  # these have defaults
    except ValidationError as error:
        for key, message in flatten(error.messages_dict):
            problems.append(f"{location(path, key)}: {message}")
        return {}
    base = path.parent if path else Path()
    values = {"clusters": tables.pop("clusters")} if "clusters" in tables else {}
    for section, table in tables.items():
        for name, value in table.items():
            values[f"{section}.{name}"] = base / value if isinstance(value, Path) else value
    return values
