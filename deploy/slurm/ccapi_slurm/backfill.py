"""Register the jobs that sacct knows, in batches; a repetition changes nothing."""

import datetime
import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Optional

from ccapi_slurm import end_states, job_record, request_body, slurm
from ccapi_slurm.client import Client, Result, Verdict
from ccapi_slurm.dispatch import SUCCESS
from ccapi_slurm.event import JOBCOMP, Event
from ccapi_slurm.settings import Settings

# sacct's fields, and the variables of jobcomp with the same meaning; users write the last one.
_FIELDS = {
    "JobIDRaw": "JOBID",
    "JobID": "",
    "User": "USERNAME",
    "UID": "UID",
    "Account": "ACCOUNT",
    "Partition": "PARTITION",
    "State": "JOBSTATE",
    "Start": "START",
    "End": "END",
    "Submit": "SUBMIT",
    "NodeList": "NODES",
    "Timelimit": "LIMIT",
    "QOS": "QOS",
    "AllocCPUS": "PROCS",
    "AllocTRES": "",
    "JobName": "JOBNAME",
}
_ARRAY_OR_HET = re.compile(r"([0-9]{1,18})([_+])([0-9]{1,18})")
_GPUS = re.compile(r"(?:^|,)gres/gpu=([0-9]{1,6})(?:,|$)")
_DAY = datetime.timedelta(days=1)
_MAX_LINES, _MAX_BYTES = 1000, 900 * 1024
_ATTEMPTS, _MAX_PAUSE = 8, 30.0


class BackfillError(Exception):
    """The backfill cannot go on; the message says why, and a repetition continues it."""


class SacctRun(NamedTuple):
    """A run of a job: what jobcomp would report of it, and what only sacct knows."""

    event: Event
    start_time: int
    num_gpus: int


def days(since: datetime.date, until: datetime.date) -> Iterator[tuple[str, str, int, int]]:
    """Yield the days of a range as sacct's times and as epoch seconds, in UTC."""
    day = since
    while day <= until:
        begin = datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.timezone.utc)
        end = begin + _DAY
        first, last = int(begin.timestamp()), int(end.timestamp())
        yield f"{begin:%Y-%m-%dT%H:%M:%S}", f"{end:%Y-%m-%dT%H:%M:%S}", first, last
        day += _DAY


def parse(row: list[str]) -> Optional[SacctRun]:
    """Return the run in a row of sacct; None for a job that has not run."""
    values = dict(zip(_FIELDS, row))
    environment = {variable: values[field] for field, variable in _FIELDS.items() if variable}
    start_time, stop_time, submit_time = (
        job_record.parse_time(values[field]) for field in ("Start", "End", "Submit")
    )
    times = {"START": start_time, "END": stop_time, "SUBMIT": submit_time}
    environment.update({name: str(seconds or "") for name, seconds in times.items()})
    match = _ARRAY_OR_HET.fullmatch(values["JobID"])
    if match is not None:
        prefix = "ARRAY" if match[2] == "_" else "HET"
        environment[f"{prefix}JOBID"] = match[1]
        environment["ARRAYTASKID" if match[2] == "_" else "HETJOBOFFSET"] = match[3]
    event = Event(JOBCOMP, float(stop_time or start_time), environment, "", "")
    has_nodes = environment["NODES"] not in {"", "None assigned"}
    if not (event.job_id and start_time and has_nodes):
        return None
    gpus = _GPUS.search(values["AllocTRES"])
    return SacctRun(event, start_time, int(gpus[1]) if gpus else 0)


def join(runs: Iterable[SacctRun], resized: dict[int, SacctRun]) -> Iterator[SacctRun]:
    """Join the parts of resized runs, in the order of their starts.

    A run that was resized has several rows. `resized` has the beginnings of those whose end is
    still to come.
    """
    for row in sorted(runs, key=lambda one: one.start_time):
        job_id = row.event.job_id
        first = resized.pop(job_id, row)
        # Slurm says that the last part was submitted when it began.
        submit = {"SUBMIT": first.event.environment["SUBMIT"]}
        event = row.event._replace(environment={**row.event.environment, **submit})
        run = row._replace(start_time=first.start_time, event=event)
        if end_states.slurm_state(run.event) == end_states.RESIZING:
            resized[job_id] = run
        else:
            yield run


def lines(run: SacctRun, cluster: str) -> list[bytes]:
    """Return the start of a run, and its stop if it has ended; raises ValueError."""
    body = request_body.start_job(run.event, cluster, None, run.start_time)
    cpus = run.event.get_int("PROCS")
    body.update({"numHwthreads": cpus} if cpus else {})
    body.update({"numAcc": run.num_gpus} if run.num_gpus else {})
    commands: list[dict[str, Any]] = [{"start": body}]
    end_state = end_states.from_jobcomp(run.event)
    if end_state is not None and run.event.get_int("END"):
        stop = request_body.stop_job(run.event, cluster, end_state, run.start_time)
        commands.append({"stop": stop})
    return [json.dumps(command, ensure_ascii=False).encode() for command in commands]


class Backfill:
    """Sends runs to ccapi, and counts what became of them."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._client = settings, Client(settings)
        self.counts: Counter[str] = Counter()
        self.reasons: list[str] = []

    def run(self, since: datetime.date, until: datetime.date) -> Iterator[str]:
        """Register the runs that started on some days; yield a line for each day.

        Raises BackfillError, SlurmError.
        """
        resized: dict[int, SacctRun] = {}
        for begin, end, first, last in days(since, until):
            before = self.counts.copy()
            rows = slurm.sacct_runs(begin, end, list(_FIELDS), self._settings.environment)
            runs = [run for run in map(parse, rows) if run and first <= run.start_time < last]
            self._send_all(join(runs, resized))
            yield f"{begin[:10]}: {describe(self.counts - before)}"
        if resized:
            self._send_all(resized.values())

    def _send_all(self, runs: Iterable[SacctRun]) -> None:
        """Send the lines of runs in batches."""
        batch: list[tuple[bytes, int]] = []
        size = 0
        for run in runs:
            try:
                new = lines(run, self._settings.cluster)
            except ValueError as error:
                self._refuse(run.event.job_id, str(error))
                continue
            size += sum(map(len, new)) + len(new)
            if len(batch) + len(new) > _MAX_LINES or size > _MAX_BYTES:
                self._send(batch)
                batch, size = [], sum(map(len, new)) + len(new)
            batch += [(line, run.event.job_id) for line in new]
        if batch:
            self._send(batch)

    def _send(self, batch: list[tuple[bytes, int]]) -> None:
        """Send lines until each has a result; raises BackfillError."""
        for attempt in range(_ATTEMPTS):
            result, results = self._client.send_batch([line for line, _ in batch])
            if result.message.startswith(("404 ", "405 ")):
                raise BackfillError(f"this address has no batches, upgrade ccapi: {result.message}")
            if result.verdict in {Verdict.REJECTED, Verdict.UNAUTHORIZED, Verdict.TOO_LARGE}:
                raise BackfillError(result.message)
            is_delayed = {Verdict.UNAVAILABLE, Verdict.ERROR, Verdict.BROKEN}
            if not any(one.verdict in is_delayed for one in [result, *results]):
                self._count(batch, results)
                return
            time.sleep(max(result.retry_after or 0.0, min(_MAX_PAUSE, 2.0**attempt)))
        raise BackfillError(f"ccapi is unavailable, run the command again later: {result.message}")

    def _count(self, batch: list[tuple[bytes, int]], results: list[Result]) -> None:
        is_new = False
        for (line, job_id), result in zip(batch, results):
            if line.startswith(b'{"start"'):
                is_new = result.verdict is Verdict.ACCEPTED
                self.counts["new"] += is_new
                self.counts["already there"] += result.verdict is Verdict.DUPLICATE
            # Where the start was known, so is the stop, or its start has another second.
            if result.verdict not in SUCCESS and (is_new or line.startswith(b'{"start"')):
                self._refuse(job_id, result.message)

    def _refuse(self, job_id: int, reason: str) -> None:
        self.counts["refused"] += 1
        self.reasons.append(f"job {job_id}: {reason:.300}")


def describe(counts: Counter[str]) -> str:
    """Return counts as text."""
    refused = f", {counts['refused']} refused" if counts["refused"] else ""
    return f"{counts['new']} new, {counts['already there']} already there{refused}"
