"""Slurm's commands that the sender runs: scontrol and sacct."""

import subprocess
import tempfile
from collections.abc import Mapping
from typing import Optional

from ccapi_slurm import job_record
from ccapi_slurm.event import Event
from ccapi_slurm.job_record import JobRecord

_TIMEOUT_SECONDS = 10
# Users decide how long a record is.
_MAX_OUTPUT_BYTES = 4 * 1024 * 1024


class SlurmError(Exception):
    """A command of Slurm failed, for another reason than an unknown job id."""


def show_job(event: Event, environment: Mapping[str, str]) -> Optional[JobRecord]:
    """Ask slurmctld for the record of an event's job; None if it does not know the job."""
    text = _run(["scontrol", "show", "job", "-d", event.scontrol_id], environment)
    return job_record.find(text, event)


def sacct(event: Event, environment: Mapping[str, str]) -> str:
    """Return sacct's lines about the runs of an event's job: State|Start|End."""
    fields = ["-X", "-n", "-P", "-D", "-o", "State,Start,End"]
    selection = ["-S", "now-30days", "-j", str(event.job_id)]
    return _run(["sacct", *fields, *selection], environment)


def _run(command: list[str], environment: Mapping[str, str]) -> str:
    """Return a command's output, "" if it does not know the job; raises SlurmError."""
    try:
        with tempfile.TemporaryFile() as output:
            process = subprocess.run(
                command,
                env=environment,
                stdout=output,
                stderr=subprocess.PIPE,
                timeout=_TIMEOUT_SECONDS,
                check=False,
            )
            output.seek(0)
            text = output.read(_MAX_OUTPUT_BYTES).decode("utf-8", "replace")
    except (OSError, subprocess.SubprocessError) as error:
        raise SlurmError(str(error)) from error
    if process.returncode and b"Invalid job id" not in process.stderr:
        raise SlurmError(process.stderr[:1000].decode("utf-8", "replace").strip())
    return text
