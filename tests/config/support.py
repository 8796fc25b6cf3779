"""What the tests of the settings share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ccapi.config import load
from ccapi.config.database_url import EXPECTED
from ccapi.errors import StartupError

EXAMPLE = Path(__file__).parent.parent.parent / "config.example.toml"
SECTIONS = ["server", "database", "archive", "jobs", "log", "metrics"]
FRITZ = """
[[clusters]]
name = "fritz"
[[clusters.sub_clusters]]
name = "main"
nodes = "f[0101-0103], f0201"
[[clusters.sub_clusters]]
name = "spr"
nodes = "f[1-2]r[01-02]"
"""

NAME = "expected a name of at most 64 letters, digits, . _ and -, not starting with . _ or -"
NETWORKS = "expected addresses or networks with commas between, such as 10.0.0.7, 10.1.0.0/16"
NODES = "expected a node list such as f[0101-0188,0201]"
SECONDS = "expected seconds from 0.001 to 86400"
TABLES = "expected an array of tables (in the environment: JSON)"
WINDOW = "expected an integer from 0 to 2147483647"
URL = f"expected {EXPECTED}"
MASKED = '"postgresql://u:********@h"'

Settings = Callable[[str], Path]


def problems(path: Path | None = None, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(StartupError) as caught:
        load(path, environ or {})
    return str(caught.value).split("\n")
