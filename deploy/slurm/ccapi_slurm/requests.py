"""The bodies of start_job and stop_job."""

from typing import Any, Optional

from ccapi_slurm import hostlist, record
from ccapi_slurm.endings import Ending
from ccapi_slurm.event import Event
from ccapi_slurm.record import Node, Record

_LONGEST_TEXT = 1_048_576


def start(event: Event, cluster: str, found: Optional[Record], start_time: int) -> dict[str, Any]:
    """Describe a job that starts: the environment says whose it is, the record what it has."""
    nodes = _nodes(event, found)
    body = {
        "jobId": event.job_id,
        "user": event.get("SLURM_JOB_USER", "USERNAME"),
        "project": event.get("SLURM_JOB_ACCOUNT", "ACCOUNT"),
        "cluster": cluster,
        "partition": event.get("SLURM_JOB_PARTITION", "PARTITION"),
        "arrayJobId": event.number("SLURM_ARRAY_JOB_ID", "ARRAYJOBID"),
        "numNodes": len(nodes),
        "numHwthreads": sum(len(node.hwthreads) for node in nodes),
        "numAcc": sum(len(node.accelerators) for node in nodes),
        "walltime": _walltime(event, found),
        "exclusive": found.exclusive if found else None,
        "startTime": start_time,
        "resources": [_resource(node) for node in nodes],
        "metaData": _meta_data(event, found),
    }
    # Of all the zeros only this one says something: the nodes are shared.
    return {
        name: value
        for name, value in body.items()
        if value or (name == "exclusive" and value is not None)
    }


def start_time(event: Event, found: Optional[Record]) -> int:
    """Return when a prolog's job started, as Slurm says, else when the prolog ran."""
    told = event.number("SLURM_JOB_START_TIME") or (found.start_time if found else 0)
    return told or int(event.time)


def stop(event: Event, cluster: str, ending: Ending, start_time: int) -> dict[str, Any]:
    """Describe a job that ended; start_time 0 means the run that is running."""
    body = {
        "jobId": event.job_id,
        "cluster": cluster,
        "startTime": start_time,
        "stopTime": max(ending.stop_time, start_time),
        "jobState": ending.state,
    }
    return {name: value for name, value in body.items() if value}


def _nodes(event: Event, found: Optional[Record]) -> list[Node]:
    """Say what of which host the job has; of an ended job only the hosts are known."""
    if found and found.nodes:
        return found.nodes
    hosts = event.get("SLURM_JOB_NODELIST", "NODES") or (found.node_list if found else "")
    return [Node(host, [], []) for host in hostlist.expand(hosts)]


def _resource(node: Node) -> dict[str, Any]:
    given = {
        "hostname": node.hostname,
        "hwthreads": node.hwthreads,
        "accelerators": node.accelerators,
    }
    return {name: value for name, value in given.items() if value}


def _walltime(event: Event, found: Optional[Record]) -> int:
    """Return the time limit in seconds; jobcomp has minutes, or UNLIMITED."""
    if found:
        return found.walltime
    limit = event.get("LIMIT")
    return record.seconds(limit) or event.number("LIMIT") * 60


def _meta_data(event: Event, found: Optional[Record]) -> dict[str, str]:
    texts = {
        "jobName": event.job_name,
        "jobScript": event.script,
        "slurmInfo": found.text if found else "",
    }
    return {name: text[:_LONGEST_TEXT] for name, text in texts.items() if text}
