"""Load the settings in force from the defaults, a file and the environment."""

import os
from collections.abc import Mapping
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any

from ccapi.config import sources
from ccapi.config.database_url import mask
from ccapi.config.schema import KEYS
from ccapi.config.settings import SECTIONS, URLS, Config
from ccapi.config.validators import DATABASE_URL
from ccapi.errors import StartupError
from ccapi.model.cluster import Clusters


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """Load the settings: the environment overrides the file, and the file the defaults.

    The file is `path`, else $CCAPI_CONFIG, else ./config.toml if it exists. Raises
    StartupError with a line for every problem.
    """
    path = path or sources.default_file(environ)
    problems: list[str] = []
    layers = {
        "default": {key: f.default for key, f in KEYS.items()} | {"clusters": []},
        "file": sources.read_file(path, problems) if path else {},
        "environment": sources.read_environment(environ, problems),
    }
    if problems:
        raise StartupError("\n".join(problems))
    values, origins = _merge(layers)
    secret_files: list[Path] = []
    for key in URLS:
        url_file = values[f"{key}_file"]
        file = path if origins[f"{key}_file"] == "file" else None
        if url_file:
            values[key] = _url_from_file(url_file, sources.location(file, f"{key}_file"))
        source = url_file or file
        if source and values[key] and mask(values[key]) != values[key]:
            secret_files.append(source)
    if values["database.hub"] and values["database.site"]:
        raise StartupError("database.site: expected nothing, because database.hub is true")
    sections = {
        name: section(**{f.name: values[f"{name}.{f.name}"] for f in fields_of(section)})
        for name, section in SECTIONS.items()
    }
    clusters = Clusters(tuple(values["clusters"]))
    return Config(**sections, clusters=clusters, sources=origins, secret_files=tuple(secret_files))


def _merge(layers: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the last value and its source by key; a URL and its file override each other."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for source, layer in layers.items():
        for key in URLS:
            if key in layer or f"{key}_file" in layer:
                values |= {key: None, f"{key}_file": None}
                origins |= {key: source, f"{key}_file": source}
        values |= {k: v.absolute() if isinstance(v, Path) else v for k, v in layer.items()}
        origins |= dict.fromkeys(layer, source)
    return values, origins


def _url_from_file(url_file: Path, where: str) -> str:
    """Read a database's URL from the file that a setting names; no error shows its content."""
    problem = f"expected {DATABASE_URL.expected}, and nothing else"
    try:
        if DATABASE_URL.is_valid(url := url_file.read_text("utf-8").strip()):
            return url
    except OSError as error:
        problem = f"{error.strerror}; {sources.READ_HINT}"
    except UnicodeDecodeError:
        pass
    raise StartupError(f"{where}: {url_file}: {problem}")
