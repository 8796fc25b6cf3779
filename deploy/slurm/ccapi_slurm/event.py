"""An event as a hook spooled it; spool.sh describes the format."""

from collections.abc import Mapping
from typing import NamedTuple

PROLOG, EPILOG, JOBCOMP = "prolog", "epilog", "jobcomp"


class BrokenEvent(Exception):
    """The file is no whole event: a crash or a full disk cut it off, or no hook wrote it."""


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


def parse(data: bytes) -> Event:
    """Read an event; raises BrokenEvent. What is not UTF-8 becomes U+FFFD."""
    words = data.decode("utf-8", "replace").split("\0")
    if words[0] != "ccapi-slurm 1" or words[-2:] != ["end", ""]:
        raise BrokenEvent("not a whole event")
    try:
        middle = words.index("")
        kind, time, *environment = words[1:middle]
        record, script, *padding = words[middle + 1 : -2]
        event = Event(kind, float(time), _variables(environment), record, script)
    except ValueError as error:
        raise BrokenEvent(f"not an event: {error}") from error
    if any(padding) or kind not in {PROLOG, EPILOG, JOBCOMP} or not event.job_id:
        raise BrokenEvent("not an event: no kind or no job id")
    return event


def _variables(words: list[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words if "=" in word)
