"""The request bodies of start_job and stop_job."""

from collections.abc import Mapping
from typing import Any, Optional

from ccapi_slurm import hostlist, job_record
from ccapi_slurm.end_states import EndState
from ccapi_slurm.event import Event
from ccapi_slurm.job_record import JobRecord, Node

_MAX_TEXT_LENGTH = 1_048_576


def start_job(
    event: Event, cluster: str, record: Optional[JobRecord], start_time: int
) -> dict[str, Any]:
    """Return the body for a job that starts, from the hook's environment and Slurm's record."""
    if record:
        walltime = record.walltime
    else:
        # jobcomp has minutes, or a duration, or UNLIMITED.
        walltime = job_record.parse_duration(event.get("LIMIT")) or event.get_int("LIMIT") * 60
    nodes = _nodes(event, record)
    texts = {
        "jobName": event.job_name,
        "jobScript": event.script,
        "slurmInfo": record.text if record else "",
    }
    body = _drop_empty(
        {
            "jobId": event.job_id,
            "user": event.get("SLURM_JOB_USER", "USERNAME"),
            "project": event.get("SLURM_JOB_ACCOUNT", "ACCOUNT"),
            "cluster": cluster,
            "partition": event.get("SLURM_JOB_PARTITION", "PARTITION"),
            "arrayJobId": event.get_int("SLURM_ARRAY_JOB_ID", "ARRAYJOBID"),
            "numNodes": len(nodes),
            "numHwthreads": sum(len(node.hwthreads) for node in nodes),
            "numAcc": sum(len(node.accelerators) for node in nodes),
            "walltime": walltime,
            "startTime": start_time,
            "resources": [_drop_empty(node._asdict()) for node in nodes],
            "metaData": _drop_empty({key: text[:_MAX_TEXT_LENGTH] for key, text in texts.items()}),
        }
    )
    # Not dropped when it is 0, which means that the nodes are shared.
    return {**body, "exclusive": record.exclusive} if record else body


def start_time(event: Event, record: Optional[JobRecord]) -> int:
    """Return when a prolog's job started according to Slurm, else when the prolog ran."""
    from_slurm = event.get_int("SLURM_JOB_START_TIME") or (record.start_time if record else 0)
    return from_slurm or int(event.time)


def stop_job(event: Event, cluster: str, end_state: EndState, start_time: int) -> dict[str, Any]:
    """Return the body for a job that ended; start_time 0 means the run that is running."""
    return _drop_empty(
        {
            "jobId": event.job_id,
            "cluster": cluster,
            "startTime": start_time,
            "stopTime": max(end_state.stop_time, start_time),
            "jobState": end_state.state,
        }
    )


def _nodes(event: Event, record: Optional[JobRecord]) -> list[Node]:
    """Return the job's nodes; for a job that has ended only their host names are known."""
    if record and record.nodes:
        return record.nodes
    hosts = event.get("SLURM_JOB_NODELIST", "NODES") or (record.node_list if record else "")
    return [Node(host, [], []) for host in hostlist.expand(hosts)]


def _drop_empty(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}
