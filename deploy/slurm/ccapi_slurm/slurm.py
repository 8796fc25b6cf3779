"""Asking Slurm."""

import subprocess
from collections.abc import Mapping
from typing import Optional

from ccapi_slurm import record
from ccapi_slurm.event import Event
from ccapi_slurm.record import Record

_SECONDS = 10


class NoAnswer(Exception):
    """A command of Slurm failed for another reason than that it knows no such job."""


def look(event: Event, environment: Mapping[str, str]) -> Optional[Record]:
    """Ask slurmctld about an event's job; None when it does not know it (any more)."""
    wanted = str(event.job_id)
    if event.get("SLURM_ARRAY_JOB_ID") == wanted:
        # The number of an array's last task is the array's too, and would show every task.
        wanted += "_" + event.get("SLURM_ARRAY_TASK_ID")
    text = _run(["scontrol", "show", "job", "-d", wanted], environment)
    return record.find(text, event.job_id, event.job_name)


def accounting(event: Event, environment: Mapping[str, str]) -> str:
    """Return how sacct says that the runs of an event's job ended: State|Start|End."""
    fields = ["-X", "-n", "-P", "-D", "-o", "State,Start,End"]
    since = ["-S", "now-30days", "-j", str(event.job_id)]
    return _run(["sacct", *fields, *since], environment)


def _run(command: list[str], environment: Mapping[str, str]) -> str:
    """Return what a command prints; "" when it knows no such job; raises NoAnswer."""
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise NoAnswer(str(error)) from error
    if done.returncode and b"Invalid job id" not in done.stderr:
        raise NoAnswer(done.stderr.decode("utf-8", "replace").strip())
    return done.stdout.decode("utf-8", "replace")
