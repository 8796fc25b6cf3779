"""Slurm's commands that the sender runs: scontrol, squeue and sacct."""

import secrets
import subprocess
import tempfile
from collections.abc import Mapping
from typing import Optional

from ccapi_slurm import job_record
from ccapi_slurm.event import Event
from ccapi_slurm.job_record import JobRecord

# The job has its hosts.
RUNNING = {"RUNNING", "SUSPENDED"}
_TIMEOUT_SECONDS = 10
# Users decide how long a record is.
_MAX_OUTPUT_BYTES = 4 * 1024 * 1024
# Of a day of a large site.
_LONG_TIMEOUT_SECONDS, _MAX_RUNS_BYTES = 600, 256 * 1024 * 1024


class SlurmError(Exception):
    """A command of Slurm failed, for another reason than an unknown job id."""


def show_job(event: Event, environment: Mapping[str, str]) -> Optional[JobRecord]:
    """Ask slurmctld for the record of an event's job; None if it does not know the job."""
    text = _run(["scontrol", "show", "job", "-d", event.scontrol_id], environment)
    return job_record.find(text, event)


def with_present_hosts(event: Event, environment: Mapping[str, str]) -> Optional[Event]:
    """Return an event with the hosts and CPUs that its running job has now; None if it has ended.

    Unlike scontrol, squeue prints nothing here that users write. Raises SlurmError.
    """
    selection = event.scontrol_id if event.array_job_id == event.job_id else str(event.job_id)
    fields = ["-h", "-t", "all", "-o", "%A|%T|%S|%C|%N"]
    for line in _run(["squeue", *fields, "-j", selection], environment).splitlines():
        job_id, state, start, cpus, hosts = [*line.split("|", 4), "", "", "", ""][:5]
        is_run = job_id == str(event.job_id) and state in RUNNING
        # A requeued job has started again since the event.
        if is_run and hosts and cpus.isdigit() and job_record.parse_time(start) <= event.time:
            return event.with_hosts(hosts, int(cpus))
    return None


def sacct(event: Event, environment: Mapping[str, str]) -> str:
    """Return sacct's lines about the runs of an event's job: State|Start|End."""
    fields = ["-X", "-n", "-P", "-D", "-o", "State,Start,End"]
    selection = ["-S", "now-30days", "-j", str(event.job_id)]
    return _run(["sacct", *fields, *selection], environment)


def sacct_runs(
    since: str, until: str, fields: list[str], environment: Mapping[str, str]
) -> list[list[str]]:
    """Return the fields of all runs that were active between two times, in UTC.

    A separator that no user can know keeps the lines apart: only the last field may be a text of
    users. Raises SlurmError.
    """
    separator = secrets.token_hex(8)
    command = ["sacct", "-a", "-X", "-n", "-P", "-D", f"--delimiter={separator}"]
    command += ["-S", since, "-E", until, "-o", ",".join(fields)]
    output = _run(command, environment, _LONG_TIMEOUT_SECONDS, _MAX_RUNS_BYTES)
    rows: list[list[str]] = []
    for line in output.removesuffix("\n").split("\n"):
        row = line.split(separator)
        if len(row) == len(fields):
            rows.append(row)
        elif rows:
            rows[-1][-1] += f"\n{line}"
    if len(output) >= _MAX_RUNS_BYTES:
        raise SlurmError(f"sacct knows too many runs between {since} and {until}")
    return rows


def _run(
    command: list[str],
    environment: Mapping[str, str],
    timeout: float = _TIMEOUT_SECONDS,
    max_bytes: int = _MAX_OUTPUT_BYTES,
) -> str:
    """Return a command's output, "" if it does not know the job; raises SlurmError."""
    try:
        with tempfile.TemporaryFile() as output:
            process = subprocess.run(
                command,
                env=environment,
                stdout=output,
                stderr=subprocess.PIPE,
                timeout=timeout,
                check=False,
            )
            output.seek(0)
            text = output.read(max_bytes).decode("utf-8", "replace")
    except (OSError, subprocess.SubprocessError) as error:
        raise SlurmError(str(error)) from error
    if process.returncode and b"Invalid job id" not in process.stderr:
        raise SlurmError(process.stderr[:1000].decode("utf-8", "replace").strip())
    return text
