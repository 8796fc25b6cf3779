"""Finding out how a job ended soon after its epilog, for slurmctld forgets it after MinJobAge."""

import logging
import time
from collections.abc import Mapping
from typing import Optional

from ccapi_slurm import endings, slurm
from ccapi_slurm.endings import STOPPED, Ending
from ccapi_slurm.event import EPILOG, JOBCOMP, BrokenEvent, Event
from ccapi_slurm.spool import Spool, job_of, kind_of

_log = logging.getLogger(__name__)

# jobcomp, where a site has it, knows more about a requeue and comes at the same time.
_JOBCOMP_SECONDS = 2
# Epilogs on the nodes may take long, and so may a restart of slurmctld.
_COMPLETING_SECONDS = 900
_SILENT_SECONDS = 3600
# Jobs that are long in completing are asked about ever more seldom.
_SOONEST, _SELDOMEST = 0.3, 30.0


class Settler:
    """Finds out how jobs ended, whether or not the registry can be told yet."""

    def __init__(self, spool: Spool, environment: Mapping[str, str]) -> None:
        self._spool, self._environment = spool, environment
        self._settled: set[str] = set()
        self._next_look: dict[str, float] = {}

    def settle(self, names: list[str], deadline: float) -> None:
        """Ask about the epilogs among some events, until a monotonic time."""
        told = told_by_jobcomp(self._spool, names)
        epilogs = [name for name in names if kind_of(name) == EPILOG and job_of(name) not in told]
        self._settled &= set(epilogs)
        self._next_look = {name: self._next_look.get(name, 0.0) for name in epilogs}
        for name in epilogs:
            if name in self._settled or time.time() < self._next_look[name]:
                continue
            if self._spool.ending(name) is not None or self._settle(name):
                self._settled.add(name)
            if time.monotonic() > deadline:
                return

    def _settle(self, name: str) -> bool:
        """Ask about one event, and tell whether there is no more to be asked."""
        try:
            found = self._spool.read(name)
        except BrokenEvent:
            return True
        if found is None:
            return False
        ending = settle(found, self._environment)
        if ending is None:
            age = time.time() - found.time
            self._next_look[name] = time.time() + min(max(_SOONEST, age / 4), _SELDOMEST)
            return False
        self._spool.keep_ending(name, ending)
        return True


def told_by_jobcomp(spool: Spool, names: list[str]) -> set[str]:
    """Name the jobs that have an epilog, and whose end jobcomp has told, which knows better."""
    ended = {job_of(name) for name in names if kind_of(name) == EPILOG}
    told = (name for name in names if kind_of(name) == JOBCOMP and job_of(name) in ended)
    return {job_of(name) for name in told if spool.is_whole(name)}


def settle(event: Event, environment: Mapping[str, str]) -> Optional[Ending]:
    """Find out how an epilog's job ended; None when that is not to be known yet."""
    age = time.time() - event.time
    try:
        found = slurm.look(event, environment)
    except slurm.NoAnswer as error:
        _log.warning("slurmctld does not tell how job %d ended: %s", event.job_id, error)
        return None if age < _SILENT_SECONDS else _from_accounting(event, environment)
    if found is None:
        return _from_accounting(event, environment)
    ending = endings.from_record(event, found)
    if ending is None and age >= _COMPLETING_SECONDS:
        return _from_accounting(event, environment)
    if ending is not None and ending.state == STOPPED and age < _JOBCOMP_SECONDS:
        return None
    return ending


def _from_accounting(event: Event, environment: Mapping[str, str]) -> Ending:
    """Ask sacct where the site has it; without it, the exit code must do."""
    try:
        found = endings.from_sacct(event, slurm.accounting(event, environment))
    except slurm.NoAnswer:
        found = None
    if found is None:
        _log.warning("how job %d ended is guessed from its exit code", event.job_id)
    return found or endings.from_exit_code(event)
