"""Finished jobs as the database gives them."""

from typing import Any

from ccapi.model.job import Job

START = 1_768_978_339


def job(**overrides: Any) -> Job:
    """Make a finished job: what every job has, and what the test is about."""
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
        "start_time": START,
        "stop_time": START + 3600,
        "job_state": "completed",
        "monitoring_status": 3,
        "resources": '[{"hostname":"f0101"}]',
        "meta_data": None,
        "statistics": None,
        "tags": "[]",
    }
    return Job(**{**fields, **overrides})
