"""Archives as other programs of the ClusterCockpit family write them."""

import json
from pathlib import Path
from typing import Any

from ccapi.archive import layout
from ccapi.model.job import JobKey

START = 1_768_978_339


def document(**changes: Any) -> dict[str, Any]:
    """Make a meta.json of another program: what it always has, and what the test is about."""
    return {
        "jobId": 1034871,
        "user": "abcd100h",
        "project": "abcd200",
        "cluster": "fritz",
        "subCluster": "main",
        "numNodes": 1,
        "exclusive": 1,
        "startTime": START,
        "jobState": "completed",
        "duration": 3600,
        "resources": [{"hostname": "f0101"}],
        "statistics": {},
        **changes,
    }


def put(tree: Path, content: dict[str, Any] | bytes, **key: Any) -> Path:
    """Put a meta.json where it belongs, or where another job's would; return its path."""
    values = {**(content if isinstance(content, dict) else document()), **key}
    run = JobKey(values["cluster"], values["jobId"], values["startTime"])
    path = layout.meta_path(tree, run)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path
