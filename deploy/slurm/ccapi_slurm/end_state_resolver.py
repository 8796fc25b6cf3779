"""Resolve how a job ended soon after its epilog, as slurmctld forgets it after MinJobAge."""

import logging
import time
from collections.abc import Mapping
from typing import Optional

from ccapi_slurm import counters, end_states, slurm
from ccapi_slurm.counters import Counters
from ccapi_slurm.end_states import NO_END, STOPPED, EndState
from ccapi_slurm.event import EPILOG, JOBCOMP, BrokenEvent, Event
from ccapi_slurm.spool import Spool, job_id_of, kind_of

_log = logging.getLogger(__name__)

# jobcomp, where a site uses it, runs at the same time and knows more about a requeue.
_JOBCOMP_SECONDS = 2
# Epilogs on the nodes may run for long, and so may a restart of slurmctld.
_MAX_COMPLETING_SECONDS = 900
_MAX_SLURMCTLD_OUTAGE_SECONDS = 3600
# A job whose end was reported in an unknown word, but which runs for so long, has not ended.
_RUNNING = {"RUNNING", "SUSPENDED", "CONFIGURING"}
_MAX_RUNNING_SECONDS = 60
# The longer a job is completing, the longer the interval between two queries.
_MIN_INTERVAL, _MAX_INTERVAL = 0.3, 30.0


class EndStateResolver:
    """Resolves the end states of epilogs, even while ccapi is unavailable."""

    def __init__(
        self,
        spool: Spool,
        environment: Mapping[str, str],
        attempts: Mapping[str, int],
        tally: Counters,
    ) -> None:
        self._spool, self._environment, self._attempts = spool, environment, attempts
        self._counters = tally
        self._resolved: set[str] = set()
        self._next_query: dict[str, float] = {}

    def resolve(self, names: list[str], deadline: float) -> None:
        """Resolve the epilogs among some events, until a monotonic time."""
        by_jobcomp = jobs_reported_by_jobcomp(self._spool, names)
        epilogs = [
            name for name in names if kind_of(name) == EPILOG and job_id_of(name) not in by_jobcomp
        ]
        self._resolved &= set(epilogs)
        waiting = self._next_query.keys() & names
        self._next_query = {name: self._next_query[name] for name in waiting}
        for name in epilogs:
            if name in self._resolved or time.time() < self._next_query.get(name, 0.0):
                continue
            if self._spool.load_end_state(name) is not None or self._try_to_resolve(name):
                self._resolved.add(name)
            if time.monotonic() > deadline:
                return

    def _try_to_resolve(self, name: str) -> bool:
        """Resolve one event; a mistake in it or about it makes it a dead letter."""
        try:
            self._spool.begin_attempt(name, self._attempts.get(name, 0) + 1)
            return self._resolve(name)
        except OSError:
            raise
        except Exception as error:
            _log.exception("%s is a dead letter: %s", name, error)
            self._counters.add(counters.DEAD_LETTERS)
            self._spool.dead_letter(name, f"{type(error).__name__}: {error}")
            return True
        finally:
            self._spool.end_attempt()

    def _resolve(self, name: str) -> bool:
        """Resolve one event, and return whether it needs no further query."""
        try:
            event = self._spool.read(name)
        except BrokenEvent:
            return True
        return event is not None and self._query(name, event) is not None

    def resolve_unknown_state(self, name: str, event: Event) -> Optional[EndState]:
        """Return how a job really ended whose state in jobcomp is not known; None: ask again."""
        end_state = self._spool.load_end_state(name)
        if end_state is not None or time.time() < self._next_query.get(name, 0.0):
            return end_state
        if name not in self._next_query:
            state = end_states.slurm_state(event)
            _log.warning("job %d has the unknown state %.80r", event.job_id, state)
            self._counters.add(counters.UNKNOWN_STATES)
        return self._query(name, event)

    def _query(self, name: str, event: Event) -> Optional[EndState]:
        """Ask Slurm, and save the answer; None if it does not know yet."""
        end_state = self._ask_slurm(event)
        if end_state is None:
            now = time.time()
            interval = min(max(_MIN_INTERVAL, (now - event.time) / 4), _MAX_INTERVAL)
            self._next_query[name] = now + interval
        else:
            self._spool.save_end_state(name, end_state)
        return end_state

    def _ask_slurm(self, event: Event) -> Optional[EndState]:
        """Return how an event's job ended; None if Slurm does not know it yet."""
        age = time.time() - event.time
        try:
            record = slurm.show_job(event, self._environment)
        except slurm.SlurmError as error:
            _log.warning("cannot ask slurmctld how job %d ended: %s", event.job_id, error)
            is_too_old = age >= _MAX_SLURMCTLD_OUTAGE_SECONDS
            return self._from_sacct_or_exit_code(event) if is_too_old else None
        if record is None:
            return self._from_sacct_or_exit_code(event)
        end_state = end_states.from_record(event, record)
        if end_state is None and record.state in _RUNNING and event.kind == JOBCOMP:
            return NO_END if age >= _MAX_RUNNING_SECONDS else None
        if end_state is None and age >= _MAX_COMPLETING_SECONDS:
            return self._from_sacct_or_exit_code(event)
        if end_state is not None and end_state.state == STOPPED and age < _JOBCOMP_SECONDS:
            return None
        return end_state

    def _from_sacct_or_exit_code(self, event: Event) -> EndState:
        try:
            end_state = end_states.from_sacct(event, slurm.sacct(event, self._environment))
        except slurm.SlurmError:
            end_state = None
        if end_state is None:
            _log.warning("guessing the end state of job %d from its exit code", event.job_id)
            self._counters.add(counters.GUESSED_ENDS)
        return end_state or end_states.from_exit_code(event)


def jobs_reported_by_jobcomp(spool: Spool, names: list[str]) -> set[str]:
    """Return the jobs with both an epilog and a complete jobcomp event, which is more exact."""
    epilogs = {job_id_of(name) for name in names if kind_of(name) == EPILOG}
    jobcomps = [name for name in names if kind_of(name) == JOBCOMP and job_id_of(name) in epilogs]
    return {job_id_of(name) for name in jobcomps if spool.is_complete(name)}
