"""The sender: sends the spool's events in order, and waits when the registry is away."""

import logging
import random
import time
from typing import Optional

from ccapi_slurm import endings, status
from ccapi_slurm.delivery import LOCKED_OUT, Answer, Registry, Verdict
from ccapi_slurm.dispatch import NOTHING_TO_DO, OK, Dispatcher
from ccapi_slurm.event import JOBCOMP, PROLOG, BrokenEvent, Event
from ccapi_slurm.settings import Settings
from ccapi_slurm.settling import Settler, told_by_jobcomp
from ccapi_slurm.spool import Spool, job_of

_log = logging.getLogger(__name__)

_TICK_SECONDS = 0.5
# A pass is cut short, because jobs end meanwhile and slurmctld forgets how.
_PASS_SECONDS = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_LONGEST_RETRY_AFTER = 3600.0
_TROUBLES_IN_A_ROW = 3
_METRICS_SECONDS = 10.0


class Backoff:
    """A pause that doubles with each failure, and is never the same twice."""

    def __init__(self) -> None:
        self._failures, self._until = 0, 0.0

    def fail(self, retry_after: Optional[float] = None) -> None:
        """Pause, at least as long as the registry asks for."""
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(self._failures, 10))
        seconds = longest * random.uniform(0.5, 1)  # noqa: S311 - it only spreads the load
        self._failures += 1
        asked = min(retry_after or 0.0, _LONGEST_RETRY_AFTER)
        self._until = time.monotonic() + max(seconds, asked)

    @property
    def has_failed(self) -> bool:
        """Tell whether anything failed yet."""
        return self._failures > 0

    @property
    def is_over(self) -> bool:
        """Tell whether it is time to try again."""
        return time.monotonic() >= self._until


class Sender:
    """Empties a spool; one at a time may."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._spool = Spool(settings.spool)
        self._settler = Settler(self._spool, settings.environment)
        self._dispatcher = Dispatcher(settings, self._spool, Registry(settings))
        self._outage = Backoff()
        self._jobs_in_trouble: dict[str, Backoff] = {}
        self._troubles_in_a_row = 0
        self._next_metrics = 0.0

    def run(self) -> None:
        """Send for ever; raises SpoolError when the spool cannot be used."""
        with self._spool.alone():
            while True:
                self.tick()
                time.sleep(_TICK_SECONDS)

    def run_once(self) -> bool:
        """Send what can be sent now, and tell whether that was all; raises SpoolError."""
        with self._spool.alone():
            left = len(self._spool.events()) + 1
            while self._outage.is_over and len(self._spool.events()) < left:
                left = len(self._spool.events())
                self.tick()
            return not self._spool.events()

    def tick(self) -> None:
        """Find out how jobs ended, then send for some seconds."""
        names = self._spool.events()
        self._settler.settle(names, time.monotonic() + _PASS_SECONDS)
        if self._outage.is_over:
            self._revive_locked_out()
            self._pass(self._spool.events())
        if time.monotonic() >= self._next_metrics:
            self._next_metrics = time.monotonic() + _METRICS_SECONDS
            self._spool.sweep()
            status.write_metrics(self._spool, self._settings.metrics_file)

    def _pass(self, names: list[str]) -> None:
        """Send events in order; where one must wait, those of the same job wait behind it."""
        deadline = time.monotonic() + _PASS_SECONDS
        waiting = {job for job, pause in self._jobs_in_trouble.items() if not pause.is_over}
        told = told_by_jobcomp(self._spool, names)
        for name in names:
            if job_of(name) in waiting:
                continue
            if not self._send(name, is_told=job_of(name) in told):
                waiting.add(job_of(name))
            if not self._outage.is_over or time.monotonic() > deadline:
                return

    def _send(self, name: str, *, is_told: bool) -> bool:
        """Send one event; false when it stays, and its job waits."""
        try:
            one = self._spool.read(name)
        except BrokenEvent as error:
            self._bury(name, str(error))
            return True
        answer = one and self._dispatch(name, one, is_told=is_told)
        return answer is not None and self._conclude(name, answer)

    def _dispatch(self, name: str, one: Event, *, is_told: bool) -> Optional[Answer]:
        """Report an event; None when it cannot be reported yet."""
        if one.kind == PROLOG:
            return self._dispatcher.prolog(one)
        if one.kind == JOBCOMP:
            return self._dispatcher.end(one, endings.from_jobcomp(one))
        if is_told:
            return NOTHING_TO_DO
        ending = self._spool.ending(name)
        return None if ending is None else self._dispatcher.end(one, ending)

    def _conclude(self, name: str, answer: Answer) -> bool:
        """Do with an event what the answer means; false when it stays."""
        if answer.verdict in OK:
            self._spool.forget(name)
        elif answer.verdict in {Verdict.DEAD, Verdict.LOCKED_OUT}:
            self._bury(name, answer.text)
        if answer.verdict in {Verdict.OUTAGE, Verdict.LOCKED_OUT}:
            self._pause(answer)
        elif answer.verdict is Verdict.TROUBLE:
            self._trouble(name, answer)
        else:
            self._succeed(name)
        return answer.verdict not in {Verdict.OUTAGE, Verdict.TROUBLE}

    def _bury(self, name: str, answer: str) -> None:
        _log.error("%s is a dead letter: %s", name, answer)
        self._spool.bury(name, answer)

    def _pause(self, answer: Answer) -> None:
        if not self._outage.has_failed:
            _log.warning("the registry is away, events wait: %s", answer.text)
        self._outage.fail(answer.retry_after)

    def _trouble(self, name: str, answer: Answer) -> None:
        """Let the other jobs go on, unless they are in trouble as well."""
        _log.warning("%s waits: %s", name, answer.text)
        self._jobs_in_trouble.setdefault(job_of(name), Backoff()).fail(answer.retry_after)
        self._troubles_in_a_row += 1
        if self._troubles_in_a_row >= _TROUBLES_IN_A_ROW or answer.retry_after:
            self._pause(answer)

    def _succeed(self, name: str) -> None:
        if self._outage.has_failed:
            _log.warning("the registry is back")
        self._jobs_in_trouble.pop(job_of(name), None)
        self._troubles_in_a_row = 0
        self._outage = Backoff()

    def _revive_locked_out(self) -> None:
        """Try again what was refused with the token, not with the event."""
        for name in self._spool.dead_letters():
            if self._spool.answer(name).startswith(LOCKED_OUT):
                self._spool.revive(name)
