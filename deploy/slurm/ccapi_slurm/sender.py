"""The sender: send the events in the spool in order, and wait while ccapi is unavailable."""

import logging
import random
import time
from typing import Optional

from ccapi_slurm import end_states, status
from ccapi_slurm.client import UNAUTHORIZED_STATUSES, Client, Result, Verdict
from ccapi_slurm.dispatch import NOTHING_TO_REPORT, SUCCESS, Dispatcher
from ccapi_slurm.end_state_resolver import EndStateResolver, jobs_reported_by_jobcomp
from ccapi_slurm.event import EPILOG, JOBCOMP, PROLOG, BrokenEvent
from ccapi_slurm.settings import Settings
from ccapi_slurm.spool import Spool, job_id_of

_log = logging.getLogger(__name__)

_TICK_SECONDS = 0.5
# Sending pauses after this time: jobs end meanwhile, and slurmctld forgets how.
_PASS_SECONDS = 5.0
_MIN_PAUSE, _MAX_PAUSE = 1.0, 60.0
_MAX_RETRY_AFTER = 3600.0
_ERRORS_BEFORE_PAUSE = 3
_METRICS_INTERVAL = 10.0


class Backoff:
    """A randomized pause that doubles with each failure."""

    def __init__(self) -> None:
        self._failures, self._end = 0, 0.0

    def fail(self, retry_after: Optional[float] = None) -> None:
        """Start a pause of `retry_after` seconds or more."""
        pause = min(_MAX_PAUSE, _MIN_PAUSE * 2 ** min(self._failures, 10))
        pause *= random.uniform(0.5, 1)  # noqa: S311 - it only spreads the load
        self._failures += 1
        requested = min(retry_after or 0.0, _MAX_RETRY_AFTER)
        self._end = time.monotonic() + max(pause, requested)

    @property
    def has_failed(self) -> bool:
        """Return whether anything has failed."""
        return self._failures > 0

    @property
    def is_over(self) -> bool:
        """Return whether the pause has ended."""
        return time.monotonic() >= self._end


class Sender:
    """Sends the events of a spool, which only one sender at a time can use."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._spool = Spool(settings.spool)
        self._resolver = EndStateResolver(self._spool, settings.environment)
        self._dispatcher = Dispatcher(settings, self._spool, Client(settings))
        self._outage = Backoff()
        self._backoff_by_job: dict[str, Backoff] = {}
        self._errors_in_a_row = 0
        self._next_metrics = 0.0

    def run(self) -> None:
        """Send events until stopped; raises SpoolError."""
        with self._spool.exclusive():
            while True:
                self.tick()
                time.sleep(_TICK_SECONDS)

    def run_once(self) -> bool:
        """Send what can be sent now, and return whether the spool is empty; raises SpoolError."""
        with self._spool.exclusive():
            before = len(self._spool.events()) + 1
            while self._outage.is_over and len(self._spool.events()) < before:
                before = len(self._spool.events())
                self.tick()
            return not self._spool.events()

    def tick(self) -> None:
        """Resolve end states, then send events for some seconds."""
        deadline = time.monotonic() + _PASS_SECONDS
        self._resolver.resolve(self._spool.events(), deadline)
        if self._outage.is_over:
            for name in self._spool.dead_letters():
                if self._spool.reason(name).startswith(UNAUTHORIZED_STATUSES):
                    self._spool.requeue(name)
            self._send_events(self._spool.events())
        if time.monotonic() >= self._next_metrics:
            self._next_metrics = time.monotonic() + _METRICS_INTERVAL
            self._spool.clean_up()
            status.write_metrics(self._spool, self._settings.metrics_file)

    def _send_events(self, names: list[str]) -> None:
        """Send events in order; an event that has to wait holds back the later ones of its job."""
        deadline = time.monotonic() + _PASS_SECONDS
        waiting = {job for job, backoff in self._backoff_by_job.items() if not backoff.is_over}
        by_jobcomp = jobs_reported_by_jobcomp(self._spool, names)
        for name in names:
            job = job_id_of(name)
            if job in waiting:
                continue
            if not self._send(name, reported_by_jobcomp=job in by_jobcomp):
                waiting.add(job)
            if not self._outage.is_over or time.monotonic() > deadline:
                return

    def _send(self, name: str, *, reported_by_jobcomp: bool) -> bool:
        """Send one event, and return whether it has left the queue."""
        try:
            event = self._spool.read(name)
        except BrokenEvent as error:
            self._dead_letter(name, str(error))
            return True
        if event is None:
            return False
        if event.kind == PROLOG:
            result = self._dispatcher.report_start(event)
        elif event.kind == EPILOG and reported_by_jobcomp:
            result = NOTHING_TO_REPORT
        else:
            end_state = (
                end_states.from_jobcomp(event)
                if event.kind == JOBCOMP
                else self._spool.load_end_state(name)
            )
            if end_state is None:
                return False
            result = self._dispatcher.report_end(event, end_state)
        return self._handle(name, result)

    def _handle(self, name: str, result: Result) -> bool:
        """Act on the result of an event, and return whether the event has left the queue."""
        if result.verdict in SUCCESS:
            self._spool.discard(name)
        elif result.verdict in {Verdict.REJECTED, Verdict.UNAUTHORIZED}:
            self._dead_letter(name, result.message)
        if result.verdict in {Verdict.UNAVAILABLE, Verdict.UNAUTHORIZED}:
            self._pause(result)
        elif result.verdict is Verdict.ERROR:
            # Events of other jobs may overtake this one, unless several fail in a row.
            _log.warning("%s failed and will be sent again: %s", name, result.message)
            self._backoff_by_job.setdefault(job_id_of(name), Backoff()).fail(result.retry_after)
            self._errors_in_a_row += 1
            if self._errors_in_a_row >= _ERRORS_BEFORE_PAUSE or result.retry_after:
                self._pause(result)
        else:
            if self._outage.has_failed:
                _log.warning("ccapi is available again")
            self._backoff_by_job.pop(job_id_of(name), None)
            self._errors_in_a_row = 0
            self._outage = Backoff()
        return result.verdict not in {Verdict.UNAVAILABLE, Verdict.ERROR}

    def _dead_letter(self, name: str, reason: str) -> None:
        _log.error("%s is a dead letter: %s", name, reason)
        self._spool.dead_letter(name, reason)

    def _pause(self, result: Result) -> None:
        if not self._outage.has_failed:
            _log.warning("ccapi is unavailable, events wait in the spool: %s", result.message)
        self._outage.fail(result.retry_after)
