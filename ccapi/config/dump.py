"""The settings in force, to read."""

import json
from collections.abc import Iterator

from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet

from ccapi.config.settings import SECTIONS, URLS, Config
from ccapi.config.validators import masked


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
    values = vars(getattr(config, section))
    for name, value in values.items():
        if value is not None:
            key = f"{section}.{name}"
            text = masked(value) if key in URLS else value
            if not isinstance(text, int | float):
                text = json.dumps(str(text), ensure_ascii=False)
            hidden = "# " if key in URLS and values[f"{name}_file"] else ""
            yield f"{hidden}{name} = {text}  # {config.sources.get(key, 'default')}"
