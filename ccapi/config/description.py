"""The settings in force, to read."""

import json
from collections.abc import Iterator

from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet

from ccapi.config.rules import masked
from ccapi.config.sections import SECTIONS, Config


def describe(config: Config) -> str:
    """Write the settings in force as TOML, with their sources, and secrets masked."""
    source = config.sources.get("clusters", "default")
    lines = [] if config.clusters else [f"clusters = []  # {source}"]
    for section in SECTIONS:
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
