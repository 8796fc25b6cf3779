"""The request bodies of start_job, resize_job and stop_job."""

from collections.abc import Iterator, Mapping
from typing import Any, Optional

from ccapi_slurm import job_record
from ccapi_slurm.end_states import EndState
from ccapi_slurm.event import Event
from ccapi_slurm.job_record import JobRecord, Node

# ccapi's limits.
_MAX_TEXT_LENGTH = 1_048_576
_MAX_NAME_LENGTH = 255


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
    body = _drop_empty(
        {
            "jobId": event.job_id,
            "user": event.user,
            # Without accounting, users choose the text.
            "project": event.get("SLURM_JOB_ACCOUNT", "ACCOUNT")[:_MAX_NAME_LENGTH],
            "cluster": cluster,
            "partition": event.get("SLURM_JOB_PARTITION", "PARTITION"),
            "arrayJobId": event.array_job_id,
            "numNodes": len(nodes),
            "numHwthreads": sum(len(node.hwthreads) for node in nodes),
            "numAcc": sum(len(node.accelerators) for node in nodes),
            "walltime": walltime,
            "startTime": start_time,
            "submitTime": event.get_int("SUBMIT") or (record.submit_time if record else 0),
            "requestedMemory": record.memory if record else 0,
            "resources": [_drop_empty(node._asdict()) for node in nodes],
            "metaData": _meta_data(event, record),
        }
    )
    exclusive = job_record.exclusive(
        event.get("SLURM_JOB_OVERSUBSCRIBE"), event.get("SLURM_JOB_EXCLUSIVE")
    )
    if exclusive is None and record:
        exclusive = record.exclusive
    if exclusive is not None:
        # Not dropped when it is 0, which means that the nodes are shared.
        body["exclusive"] = exclusive
    return body


def resize_job(
    event: Event, cluster: str, record: Optional[JobRecord], start_time: int, resize_time: int
) -> dict[str, Any]:
    """Return the body for a job that has the event's hosts from some time on."""
    nodes = _nodes(event, record)
    threads = sum(len(node.hwthreads) for node in nodes)
    return _drop_empty(
        {
            "jobId": event.job_id,
            "cluster": cluster,
            "startTime": start_time,
            "resizeTime": max(resize_time, start_time),
            "numNodes": len(nodes),
            "numHwthreads": threads or event.get_int("PROCS"),
            "numAcc": sum(len(node.accelerators) for node in nodes),
            "resources": [_drop_empty(node._asdict()) for node in nodes],
        }
    )


def smaller_bodies(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a body as it is, then without threads and, of a start, without script and metadata."""
    smaller = dict(body)
    yield smaller
    smaller["resources"] = [
        {key: value for key, value in node.items() if key != "hwthreads"}
        for node in body["resources"]
    ]
    yield smaller
    meta_data = body.get("metaData")
    if not meta_data:
        return
    smaller["metaData"] = {key: text for key, text in meta_data.items() if key != "jobScript"}
    yield smaller
    del smaller["metaData"]
    yield smaller


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


def _meta_data(event: Event, record: Optional[JobRecord]) -> dict[str, str]:
    """Return what ccapi has no fields for."""
    texts: dict[str, object] = {
        "jobName": event.job_name,
        "jobScript": event.script,
        "slurmInfo": record.text if record else "",
        "qos": event.get("QOS") or (record.qos if record else ""),
        "sluid": event.get("SLURM_JOB_SLUID", "SLUID") or (record.sluid if record else ""),
        "hetJobId": event.get("SLURM_HET_JOB_ID", "HETJOBID"),
        "hetJobOffset": event.get("SLURM_HET_JOB_OFFSET", "HETJOBOFFSET"),
    }
    return {key: str(text)[:_MAX_TEXT_LENGTH] for key, text in texts.items() if text}


def _nodes(event: Event, record: Optional[JobRecord]) -> list[Node]:
    """Return the job's nodes; without a clear record only their host names are known."""
    if record and record.nodes:
        return record.nodes
    return [Node(host, [], []) for host in event.hosts]


def _drop_empty(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}
