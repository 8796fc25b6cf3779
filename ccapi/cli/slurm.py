"""What Slurm's own commands say of a cluster's jobs.

No name that a user can choose is asked for, so that none can forge a line. The commands'
own environment variables are not passed on: SQUEUE_USERS alone would hide most jobs.
"""

import os
import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from ccapi.errors import CcapiError
from ccapi.model.job import JobState
from ccapi.model.reconciliation import EndedRun, Run, StaleRun

# A job that is suspended or completing still has its nodes. Spelled out, since what squeue
# shows by itself depends on its version; a state that is not asked for is pending or final.
_STATES = "RUNNING,SUSPENDED,COMPLETING,CONFIGURING,STOPPED,STAGE_OUT,SIGNALING,RESIZING"
_SQUEUE = ("squeue", "--all", "--local", "--noheader", f"--states={_STATES}", "--format=%A %S")
_CONFIG = ("scontrol", "show", "config")
_SACCT = ("sacct", "--allusers", "--allocations", "--duplicates", "--noheader", "--parsable2")
_OF_SACCT = "--format=JobIDRaw,Start,End,State"
_STATE_OF = {
    "COMPLETED": JobState.COMPLETED,
    "FAILED": JobState.FAILED,
    "NODE_FAIL": JobState.FAILED,
    "BOOT_FAIL": JobState.FAILED,
    "CANCELLED": JobState.CANCELLED,
    "TIMEOUT": JobState.TIMEOUT,
    "DEADLINE": JobState.TIMEOUT,
    "PREEMPTED": JobState.PREEMPTED,
    "OUT_OF_MEMORY": JobState.OUT_OF_MEMORY,
    "REQUEUED": JobState.STOPPED,
}
_KNOWN_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", re.ASCII)
_UNKNOWN_TIMES = {"N/A", "Unknown", "None"}
# Few enough that a command line holds them.
_IDS_AT_ONCE = 500
_TIMEOUT_SECONDS = 120


class SlurmError(CcapiError):
    """Slurm cannot be asked, or its answer cannot be relied on."""


def running(cluster: str) -> tuple[int, list[Run]]:
    """Return a moment and all jobs of a cluster that ran then; raises SlurmError.

    An answer counts only if this machine's Slurm is the cluster's, was there to be asked,
    and shows everybody's jobs to who asks: a list that is too short would end jobs.
    """
    as_of = int(time.time())
    lines = _ask(_SQUEUE).splitlines()
    _rely_on(dict(_settings(_ask(_CONFIG))), cluster)
    return as_of, [run for line in lines for run in _run(line)]


def _run(line: str) -> Iterator[Run]:
    """Read a line of squeue; a job that waits for its next life has no start."""
    job_id, _, start = line.strip().partition(" ")
    if not _is_number(job_id):
        raise SlurmError(f"squeue said {line!r:.80}, which is no job's number and start")
    start_time = _epoch(start)
    if start_time is not None:
        yield Run(int(job_id), start_time)


def _rely_on(config: dict[str, str], cluster: str) -> None:
    name = config.get("ClusterName", "")
    if name != cluster:
        raise SlurmError(
            f"Slurm is asked about cluster {name or '(unknown)'} here, not {cluster}: "
            "run this where squeue shows the jobs of that cluster, or see --slurm-cluster"
        )
    hidden = {"jobs", "all"} & set(config.get("PrivateData", "").split(","))
    if hidden and not _is_trusted(config.get("SlurmUser", "")):
        raise SlurmError(
            "Slurm shows other users' jobs to its administrators only (PrivateData): "
            "run this as root or as the SlurmUser"
        )


def _is_trusted(slurm_user: str) -> bool:
    return os.geteuid() == 0 or slurm_user.endswith(f"({os.geteuid()})")


def _settings(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, separator, value = line.partition("=")
        if separator:
            yield key.strip(), value.strip()


def ended(runs: Sequence[StaleRun]) -> list[EndedRun]:
    """Return what Slurm's accounting knows of runs that ended; raises SlurmError.

    Of a job that was requeued there are several; those that run or wait are left out.
    """
    found: list[EndedRun] = []
    for first in range(0, len(runs), _IDS_AT_ONCE):
        part = runs[first : first + _IDS_AT_ONCE]
        since = datetime.fromtimestamp(min(run.start_time for run in part), UTC)
        ids = ",".join(str(run.job_id) for run in part)
        options = (f"--starttime={since:%Y-%m-%dT00:00:00}", _OF_SACCT, f"--jobs={ids}")
        found += _ends(_ask((*_SACCT, *options)).splitlines())
    return found


def _ends(lines: Iterable[str]) -> Iterator[EndedRun]:
    for line in lines:
        job_id, start, end, state = line.split("|") if line.count("|") == 3 else ("", "", "", "")
        final = _STATE_OF.get(state.partition(" ")[0])
        if not _is_number(job_id) or final is None:
            continue
        start_time, stop_time = _epoch(start), _epoch(end)
        if start_time is not None and stop_time is not None and stop_time >= start_time:
            yield EndedRun(int(job_id), start_time, stop_time, final)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[1-9][0-9]{0,17}", text, re.ASCII) is not None


def _epoch(text: str) -> int | None:
    """Read a time that was asked for in UTC; None where Slurm knows none."""
    if text in _UNKNOWN_TIMES:
        return None
    if not _KNOWN_TIME.fullmatch(text):
        raise SlurmError(f"Slurm said {text!r:.40}, which is no time")
    return int(datetime.fromisoformat(f"{text}+00:00").timestamp())


def _ask(command: Sequence[str]) -> str:
    name = command[0]
    try:
        done = subprocess.run(  # noqa: S603 - the words are ours, found on PATH as an operator's are
            command,
            env=_environment(),
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
    if done.returncode != 0:
        reason = " ".join(done.stderr.split())
        raise SlurmError(f"{name} failed with status {done.returncode}: {reason:.200}")
    return done.stdout


def _environment() -> dict[str, str]:
    of_slurm = re.compile(r"(SLURM|SQUEUE|SACCT|SCONTROL)_(?!CONF$).*")
    kept = {name: value for name, value in os.environ.items() if not of_slurm.fullmatch(name)}
    return {**kept, "TZ": "UTC", "LC_ALL": "C"}
