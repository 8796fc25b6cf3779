"""Query Slurm's commands for the running and the ended jobs of a cluster.

The output contains no text that users choose, so they cannot forge a line. The commands do
not inherit their own environment variables: SQUEUE_USERS alone would hide most jobs.
"""

import os
import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from ccapi.errors import CcapiError
from ccapi.model.job import SLURM_STATES
from ccapi.model.reconciliation import EndedRun, Run, StaleRun

# Suspended and completing jobs still have their nodes. The default of --states depends on
# squeue's version, so all are listed; jobs in other states are pending or have ended.
_STATES = "RUNNING,SUSPENDED,COMPLETING,CONFIGURING,STOPPED,STAGE_OUT,SIGNALING,RESIZING"
_SQUEUE = ("squeue", "--all", "--local", "--noheader", f"--states={_STATES}", "--format=%A %S %t")
_COMPLETING = "CG"
_RESIZING = "RESIZING"
_SCONTROL = ("scontrol", "show", "config")
_SACCT = (
    "sacct",
    "--allusers",
    "--allocations",
    "--duplicates",
    "--noheader",
    "--parsable2",
    "--format=JobIDRaw,Start,End,State",
)
_JOB_ID = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", re.ASCII)
_UNKNOWN_TIMES = {"N/A", "Unknown", "None"}
_SLURM_VARIABLE = re.compile(r"(SLURM|SQUEUE|SACCT|SCONTROL)_(?!CONF$).*")
# A command line can hold this many job ids.
_BATCH_SIZE = 500
_TIMEOUT_SECONDS = 120


class SlurmError(CcapiError):
    """A command of Slurm failed, or its output is not reliable."""


def running_jobs(cluster: str) -> tuple[int, list[Run], list[Run]]:
    """Return a time in epoch seconds, all jobs that a cluster ran then, and the active ones.

    A job is not active while its nodes are being released. Raises SlurmError.

    An incomplete list would stop running jobs. So this machine's Slurm must be the cluster's,
    slurmctld must answer, and this user must see the jobs of all users.
    """
    as_of = int(time.time())
    output = _run(_SQUEUE)
    _require_complete_view(cluster)
    running, active = [], []
    for line in output.splitlines():
        job_id, start, state = [*line.split(), "", ""][:3]
        if not _JOB_ID.fullmatch(job_id):
            raise SlurmError(f"unexpected line from squeue: {line!r:.80}")
        start_time = _parse_time(start)
        # A requeued job has no start while it waits for its next run.
        if start_time is not None:
            running.append(Run(int(job_id), start_time))
            if state != _COMPLETING:
                active.append(running[-1])
    return as_of, running, active


def ended_runs(runs: Sequence[StaleRun]) -> list[EndedRun]:
    """Return those runs of the same jobs that have ended according to sacct.

    A requeued job has several. Raises SlurmError.
    """
    parts: list[_Part] = []
    for first in range(0, len(runs), _BATCH_SIZE):
        batch = runs[first : first + _BATCH_SIZE]
        since = datetime.fromtimestamp(min(run.start_time for run in batch), UTC)
        job_ids = ",".join(str(run.job_id) for run in batch)
        output = _run((*_SACCT, f"--starttime={since:%Y-%m-%dT00:00:00}", f"--jobs={job_ids}"))
        rows = (line.split("|") for line in output.splitlines() if line.count("|") == 3)
        for job_id, start, end, state in rows:
            start_time = _parse_time(start)
            if _JOB_ID.fullmatch(job_id) and start_time is not None:
                word = state.partition(" ")[0]
                parts.append(_Part(int(job_id), start_time, _parse_time(end), word))
    return list(_join(parts))


class _Part(NamedTuple):
    """A line of sacct: a run, or what a run was between two changes of its nodes."""

    job_id: int
    start_time: int
    stop_time: int | None
    state: str


def _join(parts: Iterable[_Part]) -> Iterator[EndedRun]:
    """Join the parts of each resized run, and yield the runs that have ended."""
    resized: dict[int, int] = {}
    for part in sorted(parts, key=lambda part: part.start_time):
        start_time = resized.pop(part.job_id, part.start_time)
        if part.state == _RESIZING:
            resized[part.job_id] = start_time
        elif part.stop_time is not None and part.state in SLURM_STATES:
            # Slurm's clock may have been set back meanwhile.
            stop_time = max(part.stop_time, start_time)
            yield EndedRun(part.job_id, start_time, stop_time, SLURM_STATES[part.state])


def _require_complete_view(cluster: str) -> None:
    """Check that squeue shows all jobs of the cluster; raises SlurmError."""
    settings = (line.partition("=") for line in _run(_SCONTROL).splitlines())
    config = {name.strip(): value.strip() for name, _, value in settings}
    name = config.get("ClusterName", "")
    if name != cluster:
        raise SlurmError(
            f"Slurm's cluster here is {name or '(unknown)'}, not {cluster}: "
            f"run this where squeue shows the jobs of {cluster}, or set --slurm-cluster"
        )
    is_private = bool({"jobs", "all"} & set(config.get("PrivateData", "").split(",")))
    user_id = os.geteuid()
    is_slurm_user = config.get("SlurmUser", "").endswith(f"({user_id})")
    if is_private and user_id != 0 and not is_slurm_user:
        raise SlurmError(
            "Slurm hides other users' jobs (PrivateData): run this as root or as the SlurmUser"
        )


def _parse_time(text: str) -> int | None:
    """Return the epoch seconds of a UTC time; None if Slurm does not know the time."""
    if text in _UNKNOWN_TIMES:
        return None
    if not _TIME.fullmatch(text):
        raise SlurmError(f"unexpected time from Slurm: {text!r:.40}")
    return int(datetime.fromisoformat(f"{text}+00:00").timestamp())


def _run(command: Sequence[str]) -> str:
    """Return the output of a command, with times in UTC; raises SlurmError."""
    name = command[0]
    inherited = {
        variable: value
        for variable, value in os.environ.items()
        if not _SLURM_VARIABLE.fullmatch(variable)
    }
    try:
        process = subprocess.run(  # noqa: S603 - fixed words; the operator's PATH finds the program
            command,
            env={**inherited, "TZ": "UTC", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise SlurmError(f"{name} is not installed here") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{name} did not answer within {_TIMEOUT_SECONDS} s") from None
    if process.returncode != 0:
        reason = " ".join(process.stderr.split())
        raise SlurmError(f"{name} failed with status {process.returncode}: {reason:.200}")
    return process.stdout
