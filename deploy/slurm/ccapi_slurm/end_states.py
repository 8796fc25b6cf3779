"""Slurm's final states in ccapi's terms, and the sources that report how a run ended."""

from typing import NamedTuple, Optional

from ccapi_slurm import job_record
from ccapi_slurm.event import Event
from ccapi_slurm.job_record import JobRecord

STOPPED = "stopped"
# A copy of ccapi.model.job.SLURM_STATES; the sender is installed without ccapi.
SLURM_STATES = {
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
    "REQUEUED": STOPPED,
}
# The run has ended, the job has not: Slurm starts it again, which ccapi registers as a new job.
_REQUEUED = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "REVOKED"}
# sacct reports every run of a job id; the epilog of a run starts within this time of its end.
_SAME_END_SECONDS = 60


class EndState(NamedTuple):
    """How a run ended, when, and when it had started (0: unknown); times are epoch seconds."""

    state: str
    stop_time: int
    start_time: int = 0


# jobcomp also runs when a running job shrinks or grows.
RESIZING = "RESIZING"
# Not an end: the job still runs.
NO_END = EndState("", 0)


def slurm_state(event: Event) -> str:
    """Return Slurm's word for the state that jobcomp reported."""
    return event.get("JOBSTATE").partition(" ")[0]


def from_jobcomp(event: Event) -> Optional[EndState]:
    """Return the end state that JobCompType=jobcomp/script reported; None for an unknown state."""
    state = slurm_state(event)
    if state == RESIZING:
        return NO_END
    if state not in SLURM_STATES and state not in _REQUEUED:
        return None
    stop_time = event.get_int("END") or int(event.time)
    return EndState(SLURM_STATES.get(state, STOPPED), stop_time, event.get_int("START"))


def from_record(event: Event, record: JobRecord) -> Optional[EndState]:
    """Return the end state in slurmctld's record; None while the job is completing.

    After a requeue the record describes the next run only.
    """
    if record.state in _REQUEUED or record.start_time > event.time:
        return EndState(STOPPED, event.get_int("SLURM_JOB_END_TIME") or int(event.time))
    if record.state not in SLURM_STATES:
        return None
    stop_time = record.end_time or int(event.time)
    return EndState(SLURM_STATES[record.state], stop_time, record.start_time)


def from_sacct(event: Event, output: str) -> Optional[EndState]:
    """Return the end state in `sacct -X -n -P -o State,Start,End`; None without a match."""
    for line in output.splitlines():
        state, start, end = [*line.split("|"), "", ""][:3]
        state = state.partition(" ")[0]
        stop_time = job_record.parse_time(end)
        is_final = state in SLURM_STATES or state in _REQUEUED
        if is_final and abs(stop_time - event.time) <= _SAME_END_SECONDS:
            start_time = job_record.parse_time(start)
            return EndState(SLURM_STATES.get(state, STOPPED), stop_time, start_time)
    return None


def from_exit_code(event: Event) -> EndState:
    """Guess from the exit code, which is the same for cancelled and completed jobs."""
    has_failed = event.get("SLURM_JOB_EXIT_CODE", "EXITCODE") not in {"", "0", "0:0"}
    stop_time = event.get_int("SLURM_JOB_END_TIME", "END") or int(event.time)
    return EndState("failed" if has_failed else "completed", stop_time, event.get_int("START"))
