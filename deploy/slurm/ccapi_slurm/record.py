"""What `scontrol show job -d` says about a job, as the text that every Slurm prints."""

import calendar
import re
import time
from typing import NamedTuple, Optional

from ccapi_slurm import hostlist

_FIELD = re.compile(r"(?:^|(?<=\s))([A-Za-z][A-Za-z0-9_/:]*)=(\S*)")
_GPU = re.compile(r"gpu(?::[^:(),]+)*:[0-9]+\(IDX:([0-9,-]*)\)")
# From here on a record is text that users write: command, directories, comments.
_USERS_TEXT = "\n   Command="
_EXCLUSIVE = {"NO": 1, "EXCLUSIVE": 1, "USER": 2, "MCS": 2, "OK": 0, "YES": 0}


class Node(NamedTuple):
    """A job's share of one host: Slurm's abstract CPU ids and the indices of its GPUs."""

    hostname: str
    hwthreads: list[int]
    accelerators: list[str]


class Record(NamedTuple):
    """A job as slurmctld knows it; 0 is "not given", times are epoch seconds."""

    state: str
    restarts: int
    start_time: int
    end_time: int
    walltime: int
    exclusive: int
    nodes: list[Node]
    node_list: str
    text: str


def find(text: str, job_id: int, job_name: str) -> Optional[Record]:
    """Return a job's record, of text that may have several; None when it is not there.

    A name may hold new lines that look like fields or records. It cannot hold itself,
    so what stands before and after the whole name is Slurm's.
    """
    head = rf"JobId={job_id} (?:ArrayJobId=\d+ ArrayTaskId=\S+ )?(?:ArrayTaskThrottle=\d+ )?"
    head += r"(?:HetJobId=\d+ HetJobOffset=\d+ )?"
    named = re.search(rf"{head}JobName={re.escape(job_name)}\n   (?=UserId=|HetJobIdSet=)", text)
    if named is None:
        return None
    end = re.compile(r"\n\nJobId=").search(text, named.end())
    whole = text[named.start() : end.start() if end else len(text)].rstrip("\n") + "\n"
    facts, _, _ = whole[named.end() - named.start() :].partition(_USERS_TEXT)
    return _record(facts, whole)


def _record(facts: str, whole: str) -> Record:
    fields: dict[str, str] = {}
    for name, value in _FIELD.findall(facts):
        fields.setdefault(name, value)
    return Record(
        state=fields.get("JobState", ""),
        restarts=int(fields.get("Restarts", "0")),
        start_time=epoch(fields.get("StartTime", "")),
        end_time=epoch(fields.get("EndTime", "")),
        walltime=seconds(fields.get("TimeLimit", "")),
        exclusive=_EXCLUSIVE.get(fields.get("OverSubscribe", "").partition("(")[0], 1),
        nodes=_nodes(facts),
        node_list=fields.get("NodeList", "").replace("(null)", ""),
        text=whole,
    )


def _nodes(facts: str) -> list[Node]:
    """Read the lines `Nodes=n[3-4] CPU_IDs=0-3 Mem=0 GRES=gpu:1(IDX:0)`."""
    found = re.findall(r"^ +Nodes=(\S+) CPU_IDs=(\S*)(?: Mem=\S*)?(?: GRES=(\S*))?", facts, re.M)
    return [
        Node(host, hostlist.numbers(cpus), gpus(gres))
        for hosts, cpus, gres in found
        for host in hostlist.expand(hosts)
    ]


def gpus(gres: str) -> list[str]:
    """Return the indices of the GPUs in `gpu:a100:2(IDX:0-1),gpu:1(IDX:3)`."""
    return [str(index) for part in _GPU.findall(gres) for index in hostlist.numbers(part)]


def epoch(text: str) -> int:
    """Return the epoch seconds of a time stamp in UTC; 0 for "Unknown"."""
    try:
        return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return 0


def seconds(text: str) -> int:
    """Return the seconds of a limit, `1-12:00:00` or `30:00`; 0 for UNLIMITED and the like."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if match is None:
        return 0
    days, hours, minutes, rest = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest
