"""Finished jobs, and meta.json files as other programs of the ClusterCockpit family write them."""

import json
from pathlib import Path
from typing import Any

from ccapi.archive import layout
from ccapi.model.job import Job, JobKey

START = 1_768_978_339


def make_job(**overrides: Any) -> Job:
    """Make a finished job as the database returns it."""
    fields: dict[str, Any] = {
        "id": 7,
        "job_id": 1034871,
        "user_name": "abcd100h",
        "project": "abcd200",
        "cluster": "large",
        "sub_cluster": "main",
        "partition": None,
        "array_job_id": None,
        "num_nodes": 1,
        "num_hwthreads": None,
        "num_acc": None,
        "exclusive": 1,
        "smt": None,
        "walltime": None,
        "submit_time": None,
        "requested_memory": None,
        "energy": None,
        "start_time": START,
        "stop_time": START + 3600,
        "job_state": "completed",
        "monitoring_status": 3,
        "resources": '[{"hostname":"f0101"}]',
        "meta_data": None,
        "statistics": None,
        "footprint": None,
        "energy_footprint": None,
        "tags": "[]",
    }
    return Job(**{**fields, **overrides})


def make_document(**overrides: Any) -> dict[str, Any]:
    """Make the content of another program's meta.json."""
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
        **overrides,
    }


def write_meta_json(root: Path, content: dict[str, Any] | bytes, **key: Any) -> Path:
    """Write a meta.json to the path of its job, or of another one by `key`; return the path."""
    values = {**(content if isinstance(content, dict) else make_document()), **key}
    run = JobKey(values["cluster"], values["jobId"], values["startTime"])
    path = layout.meta_path(root, run)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path
