"""How a job's run ended: Slurm's states in the registry's words, and where they are told."""

from typing import NamedTuple, Optional

from ccapi_slurm import record
from ccapi_slurm.event import Event
from ccapi_slurm.record import Record

STOPPED = "stopped"
_STATES = {
    "COMPLETED": "completed",
    "FAILED": "failed",
    "NODE_FAIL": "failed",
    "BOOT_FAIL": "failed",
    "LAUNCH_FAILED": "failed",
    "RECONFIG_FAIL": "failed",
    "CANCELLED": "cancelled",
    "TIMEOUT": "timeout",
    "DEADLINE": "timeout",
    "PREEMPTED": "preempted",
    "OUT_OF_MEMORY": "out_of_memory",
}
# The run is over, the job is not: Slurm starts it again, as another job of the registry.
_REQUEUED = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "REVOKED"}
# sacct remembers every run of a number; the epilog ran within this time of the end.
_SAME_END_SECONDS = 60


class Ending(NamedTuple):
    """How and when a run ended, and when it had started (0: not known); epoch seconds."""

    state: str
    stop_time: int
    start_time: int = 0


def from_jobcomp(event: Event) -> Ending:
    """Read what JobCompType=jobcomp/script was told."""
    state = _STATES.get(event.get("JOBSTATE").partition(" ")[0], STOPPED)
    return Ending(state, event.number("END") or int(event.time), event.number("START"))


def from_record(event: Event, found: Record) -> Optional[Ending]:
    """Read what slurmctld remembers after an epilog; None while the job is completing.

    After a requeue it remembers only the next run.
    """
    if found.state in _REQUEUED or found.start_time > event.time:
        return Ending(STOPPED, event.number("SLURM_JOB_END_TIME") or int(event.time))
    if found.state not in _STATES:
        return None
    return Ending(_STATES[found.state], found.end_time or int(event.time), found.start_time)


def from_sacct(event: Event, lines: str) -> Optional[Ending]:
    """Read `sacct -X -n -P -o State,Start,End`; None when it knows no such end."""
    for line in lines.splitlines():
        state, start, end = [*line.split("|"), "", ""][:3]
        word = state.partition(" ")[0]
        ended = record.epoch(end)
        if abs(ended - event.time) <= _SAME_END_SECONDS and word in {*_STATES, *_REQUEUED}:
            return Ending(_STATES.get(word, STOPPED), ended, record.epoch(start))
    return None


def from_exit_code(event: Event) -> Ending:
    """Guess from the epilog alone, which cannot tell a cancelled job from a completed one."""
    failed = event.number("SLURM_JOB_EXIT_CODE") != 0
    stop_time = event.number("SLURM_JOB_END_TIME") or int(event.time)
    return Ending("failed" if failed else "completed", stop_time)
