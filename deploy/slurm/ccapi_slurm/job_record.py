"""Parser of the text that `scontrol show job -d` prints about a job."""

import calendar
import re
import time
from typing import NamedTuple, Optional

from ccapi_slurm import hostlist

_FIELD = re.compile(r"(?:^|(?<=\s))([A-Za-z][A-Za-z0-9_/:]*)=(\S*)")
# Nodes=n[3-4] CPU_IDs=0-3 Mem=0 GRES=gpu:1(IDX:0)
_NODES = re.compile(r"^ +Nodes=(\S+) CPU_IDs=(\S*)(?: Mem=\S*)?(?: GRES=(\S*))?", re.M)
_GPU = re.compile(r"gpu(?::[^:(),]+)*:[0-9]+\(IDX:([0-9,-]*)\)")
# From here on a record contains what users wrote: command, directories, comments.
_USER_TEXT = "\n   Command="
_EXCLUSIVE = {"NO": 1, "EXCLUSIVE": 1, "USER": 2, "MCS": 2, "OK": 0, "YES": 0}


class Node(NamedTuple):
    """A job's part of one host: Slurm's abstract CPU ids and the indices of its GPUs."""

    hostname: str
    hwthreads: list[int]
    accelerators: list[str]


class JobRecord(NamedTuple):
    """slurmctld's record of a job; times are epoch seconds, 0 means "not set"."""

    state: str
    restarts: int
    start_time: int
    end_time: int
    walltime: int
    exclusive: int
    nodes: list[Node]
    node_list: str
    text: str


def find(text: str, job_id: int, job_name: str) -> Optional[JobRecord]:
    """Return a job's record from a text with one record or several; None if it is not there.

    A name may contain new lines that look like fields or records. It cannot contain itself,
    so the text before and after the whole name comes from Slurm.
    """
    head = rf"JobId={job_id} (?:ArrayJobId=\d+ ArrayTaskId=\S+ )?(?:ArrayTaskThrottle=\d+ )?"
    head += r"(?:HetJobId=\d+ HetJobOffset=\d+ )?"
    start = re.search(rf"{head}JobName={re.escape(job_name)}\n   (?=UserId=|HetJobIdSet=)", text)
    if start is None:
        return None
    end = re.compile(r"\n\nJobId=").search(text, start.end())
    record = text[start.start() : end.start() if end else len(text)].rstrip("\n") + "\n"
    slurm_text, _, _ = record[start.end() - start.start() :].partition(_USER_TEXT)
    fields: dict[str, str] = {}
    for name, value in _FIELD.findall(slurm_text):
        fields.setdefault(name, value)
    nodes = [
        Node(host, hostlist.numbers(cpus), gpu_indices(gres))
        for hosts, cpus, gres in _NODES.findall(slurm_text)
        for host in hostlist.expand(hosts)
    ]
    return JobRecord(
        state=fields.get("JobState", ""),
        restarts=int(fields.get("Restarts", "0")),
        start_time=parse_time(fields.get("StartTime", "")),
        end_time=parse_time(fields.get("EndTime", "")),
        walltime=parse_duration(fields.get("TimeLimit", "")),
        exclusive=_EXCLUSIVE.get(fields.get("OverSubscribe", "").partition("(")[0], 1),
        nodes=nodes,
        node_list=fields.get("NodeList", "").replace("(null)", ""),
        text=record,
    )


def gpu_indices(gres: str) -> list[str]:
    """Return the indices of the GPUs in `gpu:a100:2(IDX:0-1),gpu:1(IDX:3)`."""
    return [str(index) for part in _GPU.findall(gres) for index in hostlist.numbers(part)]


def parse_time(text: str) -> int:
    """Return the epoch seconds of a UTC time; 0 for "Unknown" and the like."""
    try:
        return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return 0


def parse_duration(text: str) -> int:
    """Return the seconds of a time limit, `1-12:00:00` or `30:00`; 0 for UNLIMITED."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if match is None:
        return 0
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
