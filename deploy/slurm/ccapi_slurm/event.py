"""An event as a hook wrote it into the spool; spool.sh describes the format."""

from collections.abc import Mapping
from typing import NamedTuple

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
        return int(value) if value.isascii() and value.isdigit() else 0

    @property
    def job_id(self) -> int:
        """Return Slurm's id of the job."""
        return self.get_int("SLURM_JOB_ID", "JOBID")

    @property
    def job_name(self) -> str:
        """Return the job's name, exactly as its user wrote it."""
        return self.environment.get("SLURM_JOB_NAME", self.environment.get("JOBNAME", ""))


def is_complete(data: bytes) -> bool:
    """Return whether a hook has written the whole event."""
    return data.endswith(b"\0end\0")


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
