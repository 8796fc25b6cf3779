"""An event as a hook spooled it; spool.sh describes the format."""

from collections.abc import Mapping
from typing import NamedTuple

PROLOG, EPILOG, JOBCOMP = "prolog", "epilog", "jobcomp"


class BrokenEvent(Exception):
    """The file is no whole event: its hook was killed, or no hook wrote it."""


class Event(NamedTuple):
    """What one hook saw; `time` is when, in epoch seconds."""

    kind: str
    time: float
    environment: Mapping[str, str]
    record: str
    script: str

    def get(self, *names: str) -> str:
        """Return the first of some variables that is set, else ""; "(null)" is not set."""
        values = (self.environment.get(name, "") for name in names)
        return next((value for value in values if value not in {"", "(null)"}), "")

    def number(self, *names: str) -> int:
        """Return the first of some variables that is set as a number, else 0."""
        value = self.get(*names)
        return int(value) if value.isascii() and value.isdigit() else 0

    @property
    def job_id(self) -> int:
        """Return Slurm's number of the job."""
        return self.number("SLURM_JOB_ID", "JOBID")

    @property
    def job_name(self) -> str:
        """Return the job's name, exactly."""
        return self.environment.get("SLURM_JOB_NAME", self.environment.get("JOBNAME", ""))

    @property
    def restarts(self) -> int:
        """Return how often the job was requeued; in an epilog, the requeue that ends it counts."""
        return self.number("SLURM_JOB_RESTART_COUNT")


def is_whole(data: bytes) -> bool:
    """Tell whether a hook has written all of an event."""
    return data.endswith(b"\0end\0")


def parse(data: bytes, time: float) -> Event:
    """Read an event written at a time; raises BrokenEvent. What is not UTF-8 becomes U+FFFD."""
    words = data.decode("utf-8", "replace").split("\0")
    if words[0] != "ccapi-slurm 2" or not is_whole(data):
        raise BrokenEvent("not a whole event: its hook was killed, or no hook wrote it")
    try:
        middle = words.index("")
        kind, *environment = words[1:middle]
        record, script, *padding = words[middle + 1 : -2]
        event = Event(kind, time, _variables(environment), record, script)
    except ValueError as error:
        raise BrokenEvent(f"not an event: {error}") from error
    if any(padding) or kind not in {PROLOG, EPILOG, JOBCOMP} or not event.job_id:
        raise BrokenEvent("not an event: no kind or no job id")
    return event


def _variables(words: list[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words if "=" in word)
