"""Jobs as the contract spells them.

The stored JSON goes into the answer as it is: parsing it to print it again would be
most of a list's work.
"""

import time
from datetime import UTC, datetime
from typing import Any

import orjson
from flask import Response
from orjson import Fragment

from ccapi.model.job import Job

# All that schema.JobMeta has, in the order in which a table shows it.
JOB_FIELDS = (
    *("id", "jobId", "user", "project", "cluster", "subCluster", "partition", "arrayJobId"),
    *("numNodes", "numHwthreads", "numAcc", "exclusive", "smt", "jobState", "startTime"),
    *("duration", "walltime", "monitoringStatus", "resources", "tags", "statistics"),
    "metaData",
)


def answer(content: object, status: int = 200) -> Response:
    """Make a JSON response."""
    return Response(orjson.dumps(content), status, content_type="application/json")


def now() -> int:
    """Return the current time in epoch seconds, for the durations of running jobs."""
    return int(time.time())


def job_meta(job: Job, at: int) -> dict[str, Any]:
    """Represent a job as schema.JobMeta, its duration as of `at` while it runs."""
    shown = _shared(job, at)
    shown["startTime"] = job.start_time
    if job.statistics is not None:
        shown["statistics"] = Fragment(job.statistics)
    return shown


def job_with_timestamp(job: Job, at: int) -> dict[str, Any]:
    """Represent a job as schema.Job: its start is an RFC 3339 time stamp in UTC."""
    shown = _shared(job, at)
    shown["startTime"] = f"{datetime.fromtimestamp(job.start_time, UTC):%Y-%m-%dT%H:%M:%S}Z"
    return shown


def _shared(job: Job, at: int) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": job.id,
        "jobId": job.job_id,
        "user": job.user_name,
        "project": job.project,
        "cluster": job.cluster,
        "subCluster": job.sub_cluster,
        "numNodes": job.num_nodes,
        "exclusive": job.exclusive,
        "jobState": job.job_state,
        "monitoringStatus": job.monitoring_status,
        "duration": job.duration(at),
        "resources": Fragment(job.resources),
        "tags": Fragment(job.tags),
    }
    # Written out: this is done for each job of a list.
    if job.partition is not None:
        shown["partition"] = job.partition
    if job.array_job_id is not None:
        shown["arrayJobId"] = job.array_job_id
    if job.num_hwthreads is not None:
        shown["numHwthreads"] = job.num_hwthreads
    if job.num_acc is not None:
        shown["numAcc"] = job.num_acc
    if job.smt is not None:
        shown["smt"] = job.smt
    if job.walltime is not None:
        shown["walltime"] = job.walltime
    if job.meta_data is not None:
        shown["metaData"] = Fragment(job.meta_data)
    return shown
