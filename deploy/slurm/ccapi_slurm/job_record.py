"""Parser of the text that `scontrol show job -d` prints about a job.

Users write text into many fields of it, new lines included, so text alone proves nothing. The
hook's environment names the job and its hosts. The record adds details, and only those that no
other line of the text contradicts: a user can add lines, but cannot remove Slurm's own.
"""

import calendar
import contextlib
import datetime
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

from ccapi_slurm import hostlist
from ccapi_slurm.event import Event

# The beginning of a record up to the job's name, and what follows the name.
_HEAD = re.compile(
    r"JobId=([0-9]+) (?:ArrayJobId=\d+ ArrayTaskId=\S+ )?(?:ArrayTaskThrottle=\d+ )?"
    r"(?:HetJobId=\d+ HetJobOffset=\d+ )?JobName="
)
_TAIL = re.compile(r"\n   (?:SLUID=(\S+)\n   )?(?=UserId=|HetJobIdSet=)")
# A pattern that begins with a text is found faster than one that begins with "^".
_PRIORITY = re.compile(r"\n   Priority=\d+ Nice=-?\d+ Account=")
_QOS = re.compile(r" QOS=(\S+)")
# Nodes=n[3-4] CPU_IDs=0-3 Mem=0 GRES=gpu:1(IDX:0)
_NODES = re.compile(r"^     Nodes=(\S+) CPU_IDs=(\S*)(?: Mem=\S*)?(?: GRES=(\S*))?(?: .*)?$", re.M)
_GPU = re.compile(r"gpu(?::[^:(),]{1,64}){0,2}:[0-9]+\(IDX:([0-9,-]*)\)")
_STATE = re.compile(r"\n   JobState=(\S+) Reason=")
_LIMIT = re.compile(r"\n   RunTime=\S+ TimeLimit=(\S+)")
_TIMES = re.compile(r"\n   StartTime=(\S+) EndTime=(\S+)")
# 26.05 says in a field of its own to whom the job's nodes belong alone.
_SHARING = re.compile(r"\n   OverSubscribe=([^\s(]+)\S*(?: Exclusive=(\S+))?")
_SUBMIT = re.compile(r"\n   SubmitTime=(\S+) EligibleTime=")
_MEMORY = re.compile(
    r"\n   MinCPUsNode=\d+ MinMemory(CPU|Node)=([0-9]{1,12}(?:\.[0-9]{1,3})?)([KMGTP]?) "
)
_MEGABYTES = {"": 1, "K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2, "P": 1024**3}
_EXCLUSIVE = {"NODE": 1, "TOPO": 1, "EXCLUSIVE": 1, "USER": 2, "MCS": 2, "OK": 0, "YES": 0}
# SLURM_JOB_CPUS_PER_NODE counts a core with several hardware threads once if the job uses only
# one of them. CPU_IDs lists all of them; no processor has more than eight.
_MAX_THREADS_PER_CORE = 8
_MAX_GPUS_PER_NODE = 256
# Slurm writes one; parsing more only costs time.
_MAX_BLOCKS = 16

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")

# The host list, the CPU ids and the GRES of a line about nodes.
_Line = tuple[str, str, str]


class Node(NamedTuple):
    """A job's part of one host: Slurm's abstract CPU ids and the indices of its GPUs."""

    hostname: str
    hwthreads: list[int]
    accelerators: list[str]


class JobRecord(NamedTuple):
    """slurmctld's record of a job; times are epoch seconds, 0 means "not set".

    `memory` is what the job requested, in MB. `sluid` is its id in all clusters, since 25.11.
    `nodes` is empty if the text describes the job's hosts not at all, or in two ways.
    `unclear` names the fields that the text does not contain, or contains with two values.
    """

    state: str
    start_time: int
    end_time: int
    walltime: int
    exclusive: Optional[int]
    submit_time: int
    memory: int
    qos: str
    sluid: str
    nodes: list[Node]
    text: str
    unclear: list[str]


class _Text:
    """The lines of a record; remembers which fields are not clear."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.unclear: list[str] = []

    def field(self, name: str, pattern: re.Pattern[str]) -> tuple[str, ...]:
        """Return the groups of the only match of a field that every job has."""
        values = self.optional(pattern)
        if not any(values):
            self.unclear.append(name)
        return values

    def optional(self, pattern: re.Pattern[str]) -> tuple[str, ...]:
        """Return the groups of the pattern's only match; empty texts without one, or with two."""
        matches = {match.groups("") for match in pattern.finditer(self.text)}
        return matches.pop() if len(matches) == 1 else ("",) * pattern.groups


def find(text: str, event: Event) -> Optional[JobRecord]:
    """Return the record of an event's job from a text; None if it is not there, or twice.

    The job's name cannot contain itself. So everything but the whole name, which the environment
    has as well, is searched.
    """
    heads = []
    for match in _HEAD.finditer(text):
        # Compiling a pattern for each job would take most of the sender's time.
        if match[1] == str(event.job_id) and text.startswith(event.job_name, match.end()):
            tail = _TAIL.match(text, match.end() + len(event.job_name))
            if tail is not None:
                heads.append((match.start(), tail))
    if len(heads) != 1:
        return None
    [(start, tail)] = heads
    name_end = tail.end()
    end = text.find("\n\nJobId=", name_end)
    searched = _Text(f"\n{text[:start]}\n   {text[name_end:]}")
    (state,) = searched.field("JobState", _STATE)
    (limit,) = searched.field("TimeLimit", _LIMIT)
    start_time, end_time = searched.field("StartTime", _TIMES)
    oversubscribe, is_exclusive = searched.field("OverSubscribe", _SHARING)
    (submit_time,) = searched.optional(_SUBMIT)
    return JobRecord(
        state=state,
        start_time=parse_time(start_time),
        end_time=parse_time(end_time),
        walltime=parse_duration(limit),
        exclusive=exclusive(oversubscribe, is_exclusive),
        submit_time=parse_time(submit_time),
        memory=_memory(searched, event),
        qos=_qos(searched.text, event).replace("(null)", ""),
        sluid=tail[1] or "",
        nodes=_nodes(searched, event),
        text=text[start : end if end >= 0 else len(text)].rstrip("\n") + "\n",
        unclear=searched.unclear,
    )


def gpu_indices(gres: str) -> list[str]:
    """Return the indices of the GPUs in `gpu:a100:2(IDX:0-1),gpu:1(IDX:3)`."""
    indices = ",".join(_GPU.findall(gres))
    return [str(index) for index in hostlist.numbers(indices, _MAX_GPUS_PER_NODE)]


def parse_time(text: str) -> int:
    """Return the epoch seconds of a UTC time; 0 for "Unknown" and the like."""
    if not _TIME.fullmatch(text):
        return 0
    try:
        # strptime takes twenty times as long.
        return max(0, calendar.timegm(datetime.datetime.fromisoformat(text).timetuple()))
    except ValueError:
        return 0


def parse_duration(text: str) -> int:
    """Return the seconds of a time limit, `1-12:00:00` or `30:00`; 0 for UNLIMITED."""
    match = re.fullmatch(r"(?:([0-9]{1,9})-)?(?:([0-9]+):)?([0-9]+):([0-9]+)", text[:40])
    if match is None:
        return 0
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def exclusive(oversubscribe: str, is_exclusive: str) -> Optional[int]:
    """Return ccapi's number for whom the nodes belong to; None if Slurm does not say.

    Since 26.05, Slurm says so in a word of its own.
    """
    if is_exclusive:
        return {**_EXCLUSIVE, "NO": 0}.get(is_exclusive)
    return {**_EXCLUSIVE, "NO": 1}.get(oversubscribe)


def _memory(searched: _Text, event: Event) -> int:
    """Return how much memory a job requested on all its hosts, in MB."""
    per_what, amount, unit = searched.optional(_MEMORY)
    cpus = event.cpus_by_host.values()
    return round(
        float(amount or 0) * _MEGABYTES[unit] * (sum(cpus) if per_what == "CPU" else len(cpus))
    )


def _qos(text: str, event: Event) -> str:
    """Return the QOS, which stands behind the account's text; "" without one, or with two."""
    project = event.get("SLURM_JOB_ACCOUNT", "ACCOUNT") or "(null)"
    values = set()
    for match in _PRIORITY.finditer(text):
        end = match.end() + len(project)
        qos = _QOS.match(text, end)
        if qos is not None and text[match.end() : end].lower() == project.lower():
            values.add(qos[1])
    return values.pop() if len(values) == 1 else ""


def _nodes(searched: _Text, event: Event) -> list[Node]:
    """Return the nodes of the only block of lines that describes exactly the job's hosts."""
    blocks = _blocks(searched.text)
    cpus_by_host = event.cpus_by_host if blocks else {}
    allocations = []
    for block in blocks if len(blocks) <= _MAX_BLOCKS else ():
        with contextlib.suppress(ValueError):
            allocations.append(_parse_block(block, cpus_by_host))
    if len(allocations) != 1:
        searched.unclear.append("Nodes")
        return []
    return allocations[0]


def _blocks(text: str) -> set[tuple[_Line, ...]]:
    """Return the different groups of adjacent lines about nodes."""
    blocks: list[list[_Line]] = []
    previous_end = -2
    for match in _NODES.finditer(text):
        if match.start() != previous_end + 1:
            blocks.append([])
        hosts, cpus, gres = match.groups("")
        blocks[-1].append((hosts, cpus, gres))
        previous_end = match.end()
    return {tuple(block) for block in blocks}


def _parse_block(block: Sequence[_Line], cpus_by_host: Mapping[str, int]) -> list[Node]:
    """Return the nodes of a block; raises ValueError if they are not those of the job."""
    nodes: list[Node] = []
    max_threads = max(cpus_by_host.values(), default=0) * _MAX_THREADS_PER_CORE
    for host_list, cpus, gres in block:
        threads, gpus = hostlist.numbers(cpus, max_threads), gpu_indices(gres)
        for host in hostlist.expand(host_list, len(cpus_by_host) - len(nodes)):
            # An unknown host has no CPUs.
            if len(threads) > cpus_by_host.get(host, -1) * _MAX_THREADS_PER_CORE:
                raise ValueError(f"more than the job has on {host}")
            nodes.append(Node(host, threads, gpus))
    if len({node.hostname for node in nodes}) != len(cpus_by_host):
        raise ValueError("not all hosts of the job")
    return nodes
