"""Run many starts and stops with few statements and commits.

Lines of different jobs do not affect each other. So the lines are run in waves: the first line
of every job, then the second of every job, and so on. If PostgreSQL refuses a wave, the lines
are run one by one, and only the bad one fails.
"""

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ccapi.context import Context
from ccapi.db.pool import Connection
from ccapi.errors import AlreadyStopped, CcapiError, DatabaseUnavailable, Unfinished
from ccapi.model.job import Job, JobSelection, NewJob
from ccapi.repository import batch, jobs
from ccapi.service import archive, lifecycle
from ccapi.service.lifecycle import End

_log = logging.getLogger(__name__)
# Lines per transaction; their jobs are in memory at once.
_CHUNK = 100
# Less than the time after which a worker is killed, and clients give up after 30 seconds.
_MAX_SECONDS = 20
_ARCHIVING_SECONDS = 10
# After so many failures in a row it is not the line's fault.
_MAX_FAILURES = 2


class Stop(NamedTuple):
    """A job to stop."""

    selection: JobSelection
    end: End

    @property
    def job_id(self) -> int:
        """Return the batch system's number of the job."""
        return self.selection.job_id


Command = NewJob | Stop
# The database id of a new job, a stopped job, or what went wrong.
Outcome = int | Job | Exception


def run(context: Context, commands: Sequence[Command | CcapiError]) -> Iterator[list[Outcome]]:
    """Run commands in order; yield the outcomes of some at a time, in order, once committed.

    A command that is an error is its own outcome. When a job's command has an unknown outcome,
    the job's later ones fail, too: the caller sends them again in their order.
    """
    batch_run = _BatchRun(context)
    for first in range(0, len(commands), _CHUNK):
        chunk = commands[first : first + _CHUNK]
        outcomes: dict[int, Outcome] = {}
        ready: dict[int, Command] = {}
        for place, command in enumerate(chunk):
            if isinstance(command, CcapiError):
                outcomes[place] = command
                continue
            try:
                if isinstance(command, NewJob):
                    lifecycle.prepare(context, command)
                ready[place] = command
            except CcapiError as error:
                outcomes[place] = error
        outcomes |= batch_run.run_together(ready)
        yield [outcomes[place] for place in range(len(chunk))]


class _BatchRun:
    """Runs the commands of one request, some at a time; outcomes have the commands' keys."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._started_at = time.monotonic()
        # The jobs whose last command has an unknown outcome.
        self._uncertain: set[int] = set()
        self._failures = 0

    def run_together(self, commands: Mapping[int, Command]) -> dict[int, Outcome]:
        """Run commands in one transaction and archive the jobs, or else run them one by one."""
        if self._uncertain or self._is_over(_MAX_SECONDS):
            return self.run_one_by_one(commands)
        try:
            with self._context.database.transaction() as conn:
                outcomes = _run_waves(self._context, conn, commands)
        except Exception as error:
            # A deadlock, or a mistake of ours: the lines show which one is bad.
            _log.warning("a batch is run line by line: %s", error)
            return self.run_one_by_one(commands)
        stopped: dict[int, Job] = {}
        for place, outcome in outcomes.items():
            command = commands[place]
            if isinstance(outcome, Job):
                lifecycle.count_stop(outcome)
                stopped[place] = outcome
            elif isinstance(command, NewJob) and isinstance(outcome, int):
                lifecycle.count_start(command)
        if stopped and not self._is_over(_ARCHIVING_SECONDS):
            archived = archive.archive_all(self._context, list(stopped.values()))
            outcomes |= dict(zip(stopped, archived, strict=True))
        return outcomes

    def run_one_by_one(self, commands: Mapping[int, Command]) -> dict[int, Outcome]:
        """Run commands as single requests do, until the time is over or PostgreSQL fails."""
        outcomes: dict[int, Outcome] = {}
        for place, command in commands.items():
            is_over = self._failures >= _MAX_FAILURES or self._is_over(_MAX_SECONDS)
            if is_over or command.job_id in self._uncertain:
                outcomes[place] = Unfinished("this line was not run; send it again")
                self._uncertain.add(command.job_id)
                continue
            try:
                if isinstance(command, NewJob):
                    outcomes[place] = lifecycle.register(self._context, command)
                else:
                    outcomes[place] = lifecycle.stop(self._context, command.selection, command.end)
                self._failures = 0
            except DatabaseUnavailable as error:
                outcomes[place] = error
                self._failures += 1
                self._uncertain.add(command.job_id)
            except CcapiError as error:
                outcomes[place] = error
                self._failures = 0
            except Exception as error:
                _log.exception("a line of a batch failed")
                outcomes[place] = error
        return outcomes

    def _is_over(self, seconds: float) -> bool:
        return time.monotonic() - self._started_at > seconds


def _run_waves(
    context: Context, conn: Connection, commands: Mapping[int, Command]
) -> dict[int, Outcome]:
    """Run commands in a transaction, without archiving."""
    starts = [command for command in commands.values() if isinstance(command, NewJob)]
    if starts:
        batch.lock(conn, starts)
    waves: defaultdict[int, dict[int, Command]] = defaultdict(dict)
    lines_of_job: Counter[int] = Counter()
    for place, command in commands.items():
        waves[lines_of_job[command.job_id]][place] = command
        lines_of_job[command.job_id] += 1
    outcomes: dict[int, Outcome] = {}
    for wave in waves.values():
        new = {place: command for place, command in wave.items() if isinstance(command, NewJob)}
        stops = {place: command for place, command in wave.items() if isinstance(command, Stop)}
        if new:
            jobs_by_number = {job.job_id: job for job in new.values()}
            created, existing = batch.insert(conn, jobs_by_number, context.duplicate_window)
            for place, job in new.items():
                outcomes[place] = (
                    created[job.job_id]
                    if job.job_id in created
                    else jobs.duplicate_job(job, existing[job.job_id])
                )
        if stops:
            outcomes |= _stop(context, conn, stops)
    return outcomes


def _stop(context: Context, conn: Connection, stops: Mapping[int, Stop]) -> dict[int, Outcome]:
    """Stop jobs of different numbers, without archiving them."""
    outcomes: dict[int, Outcome] = {}
    ends: dict[int, tuple[str, int]] = {}
    places: dict[int, int] = {}
    selections = [stop.selection for stop in stops.values()]
    matches = batch.find(conn, selections, lifecycle.MAX_MATCHES, context.scope)
    for (place, stop), runs in zip(stops.items(), matches, strict=True):
        try:
            if not runs:
                raise lifecycle.no_match(stop.selection)
            run = lifecycle.select_running(runs)
            if stop.end.meta_data:
                outcomes[place] = lifecycle.stop_run(conn, run, stop.end)
            else:
                ends[run.id] = stop.end.job_state, lifecycle.true_stop_time(run, stop.end)
                places[run.id] = place
        except CcapiError as error:
            outcomes[place] = error
    stopped = batch.stop(conn, ends) if ends else set()
    current = batch.get(conn, sorted(stopped)) if stopped else {}
    for id_, place in places.items():
        if id_ in current:
            outcomes[place] = current[id_]
        else:
            # Another request stopped or deleted the job between our two statements.
            ref = jobs.get_run(conn, id_)
            outcomes[place] = AlreadyStopped(f"already stopped: {ref or f'id {id_}'}")
    return outcomes
