"""An event as a hook wrote it into the spool; spool.sh describes the format."""

import pwd
import re
from collections.abc import Mapping
from typing import NamedTuple

from ccapi_slurm import hostlist

# 16(x3),8
_CPUS = re.compile(r"([0-9]{1,9})(?:\(x([0-9]{1,9})\))?")
_MAX_DIGITS = 18
END = b"\0end\0"

PROLOG, EPILOG, JOBCOMP = "prolog", "epilog", "jobcomp"


class BrokenEvent(Exception):
    """The file is not an event, or an incomplete one."""


class Event(NamedTuple):
    """What one hook recorded; `time` is when it did, in epoch seconds."""

    kind: str
    time: float
    environment: Mapping[str, str]
    record: str
    script: str

    def get(self, *names: str) -> str:
        """Return the first of these variables that is set, else ""; "(null)" means unset."""
        values = (self.environment.get(name, "") for name in names)
        return next((value for value in values if value not in {"", "(null)"}), "")

    def get_int(self, *names: str) -> int:
        """Return the first of these variables that is set; 0 if it is not a number."""
        value = self.get(*names)
        is_number = value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS
        return int(value) if is_number else 0

    @property
    def job_id(self) -> int:
        """Return Slurm's id of the job."""
        return self.get_int("SLURM_JOB_ID", "JOBID")

    @property
    def user(self) -> str:
        """Return the job's user: a name, or "uid:54321" if Slurm knows only a number."""
        name, uid = self.get("SLURM_JOB_USER", "USERNAME"), self.get("SLURM_JOB_UID", "UID")
        # Slurm's words for a missing name; one of its versions repeats the number.
        has_name = name not in {"", "nobody", uid} or (name == "nobody" and _is_nobody(uid))
        return name if has_name or not uid else f"uid:{uid}"

    @property
    def array_job_id(self) -> int:
        """Return the id of the job's array; 0 without one."""
        return self.get_int("SLURM_ARRAY_JOB_ID", "ARRAYJOBID")

    @property
    def scontrol_id(self) -> str:
        """Return the id that selects this job alone.

        The last task of an array has the array's id, and the leader of a heterogeneous job has
        the id of all its parts.
        """
        if self.array_job_id == self.job_id:
            return f"{self.job_id}_{self.get('SLURM_ARRAY_TASK_ID', 'ARRAYTASKID')}"
        is_leader = self.get_int("SLURM_HET_JOB_ID", "HETJOBID") == self.job_id
        return f"{self.job_id}+0" if is_leader else str(self.job_id)

    @property
    def host_list(self) -> str:
        """Return the job's hosts in Slurm's notation."""
        return self.get("SLURM_JOB_NODELIST", "NODES")

    @property
    def hosts(self) -> list[str]:
        """Return the job's hosts; raises ValueError."""
        return hostlist.expand(self.host_list)

    def with_hosts(self, host_list: str, cpus: int) -> "Event":
        """Return the event as it would be if its job had other hosts."""
        hosts = {"NODES": host_list, "PROCS": str(cpus)}
        names = ("SLURM_JOB_NODELIST", "SLURM_JOB_CPUS_PER_NODE")
        others = {name: text for name, text in self.environment.items() if name not in names}
        return self._replace(environment={**others, **hosts})

    @property
    def cpus_by_host(self) -> dict[str, int]:
        """Return how many CPUs the job has on each host, at most; raises ValueError."""
        hosts = self.hosts
        cpus: list[int] = []
        for number, repetitions in _CPUS.findall(self.get("SLURM_JOB_CPUS_PER_NODE")):
            cpus += [int(number)] * min(int(repetitions or 1), len(hosts))
        if len(cpus) != len(hosts):
            # A jobcomp knows only the number of all CPUs.
            cpus = [sum(cpus) or self.get_int("PROCS")] * len(hosts)
        return dict(zip(hosts, cpus))

    @property
    def job_name(self) -> str:
        """Return the job's name, exactly as its user wrote it."""
        return self.environment.get("SLURM_JOB_NAME", self.environment.get("JOBNAME", ""))


def _is_nobody(uid: str) -> bool:
    """Return whether a number belongs to the user with the name nobody."""
    try:
        return str(pwd.getpwnam("nobody").pw_uid) == uid
    except KeyError:
        return False


def is_complete(data: bytes) -> bool:
    """Return whether a hook has written the whole event."""
    return data.endswith(END)


def join(head: bytes, tail: bytes) -> bytes:
    """Return an event without its middle, which belongs to a long record or a long script."""
    if is_complete(tail) and b"\0" not in tail[: -len(END)].rstrip(b"\0"):
        # The tail belongs to the script, and the head perhaps to the record.
        return head + b"\0" + END
    return head + tail


def parse(data: bytes, time: float) -> Event:
    """Parse an event that was written at `time`; raises BrokenEvent.

    Bytes that are not UTF-8 become U+FFFD.
    """
    words = data.decode("utf-8", "replace").split("\0")
    if words[0] != "ccapi-slurm 2" or not is_complete(data):
        raise BrokenEvent("incomplete event: its hook was killed, or no hook wrote it")
    try:
        separator = words.index("")
        kind, *variables = words[1:separator]
        record, script, *padding = words[separator + 1 : -2]
    except ValueError as error:
        raise BrokenEvent(f"not an event: {error}") from error
    environment = dict(word.split("=", 1) for word in variables if "=" in word)
    event = Event(kind, time, environment, record, script)
    if any(padding) or kind not in {PROLOG, EPILOG, JOBCOMP} or not event.job_id:
        raise BrokenEvent("not an event: no kind or no job id")
    return event
