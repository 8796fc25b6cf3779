"""The settings in force as text."""

import json

from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet

from ccapi.config.database_url import mask
from ccapi.config.settings import SECTIONS, URLS, Config


def to_toml(config: Config) -> str:
    """Return the settings in force as TOML, with their sources, and secrets masked.

    A URL that was read from a file is a comment, so that the text can be loaded again.
    """
    source = config.sources.get("clusters", "default")
    lines = [] if config.clusters else [f"clusters = []  # {source}"]
    for section in SECTIONS:
        lines += ["", f"[{section}]"]
        values = {k: v for k, v in vars(getattr(config, section)).items() if v is not None}
        for name, value in values.items():
            key = f"{section}.{name}"
            text = mask(value) if key in URLS else value
            if isinstance(text, bool):
                text = json.dumps(text)
            elif not isinstance(text, int | float):
                text = json.dumps(str(text), ensure_ascii=False)
            comment = "# " if key in URLS and f"{name}_file" in values else ""
            lines.append(f"{comment}{name} = {text}  # {config.sources.get(key, 'default')}")
    for cluster in config.clusters.described:
        lines += ["", "[[clusters]]", f'name = "{cluster.name}"  # {source}']
        for name, hosts in cluster.sub_clusters.items():
            nodes = NodeSet.fromlist(hosts, resolver=RESOLVER_NOGROUP)
            lines += ["[[clusters.sub_clusters]]", f'name = "{name}"', f'nodes = "{nodes}"']
    return "\n".join(lines).strip() + "\n"
