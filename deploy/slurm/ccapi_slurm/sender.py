"""The sender: send the events in the spool in order, and wait while ccapi is unavailable."""

import contextlib
import logging
import random
import time
from typing import Optional

from ccapi_slurm import counters, end_states, status
from ccapi_slurm.batcher import Batcher, BatchFailed, Line
from ccapi_slurm.client import UNAUTHORIZED_STATUSES, Client, Result, Verdict
from ccapi_slurm.counters import Counters
from ccapi_slurm.dispatch import NOTHING_TO_REPORT, SUCCESS, Dispatcher
from ccapi_slurm.end_state_resolver import EndStateResolver, jobs_reported_by_jobcomp
from ccapi_slurm.end_states import NO_END
from ccapi_slurm.event import EPILOG, JOBCOMP, PROLOG, BrokenEvent, Event
from ccapi_slurm.settings import Settings
from ccapi_slurm.spool import Spool, job_id_of, replace

_log = logging.getLogger(__name__)

_TICK_SECONDS = 0.5
# Sending pauses after this time: jobs end meanwhile, and slurmctld forgets how.
_PASS_SECONDS = 5.0
_MIN_PAUSE, _MAX_PAUSE = 1.0, 60.0
_MAX_RETRY_AFTER = 3600.0
_ERRORS_BEFORE_PAUSE = 3
_METRICS_INTERVAL = 10.0
# After so many failures, in some minutes, the event itself is at fault if others were sent.
_MAX_FAILURES = 10
_MAX_CRASHES = 3
# More events than these are sent in batches.
_MIN_BATCH = 10
_REFUSALS = {Verdict.REJECTED, Verdict.UNAUTHORIZED, Verdict.TOO_LARGE}
_MAY_PASS = {Verdict.ERROR, Verdict.BROKEN}


class Backoff:
    """A randomized pause that doubles with each failure.

    `num_sent_before` is the number of events that were sent before the first failure.
    """

    def __init__(self, num_sent_before: int = 0) -> None:
        self.num_sent_before = num_sent_before
        self.failures, self._end = 0, 0.0

    def fail(self, retry_after: Optional[float] = None) -> float:
        """Start a pause of `retry_after` seconds or more, and return its seconds."""
        pause = min(_MAX_PAUSE, _MIN_PAUSE * 2.0 ** min(self.failures, 10))
        pause *= random.uniform(0.5, 1)  # noqa: S311 - it only spreads the load
        self.failures += 1
        requested = min(retry_after or 0.0, _MAX_RETRY_AFTER)
        pause = max(pause, requested)
        self._end = time.monotonic() + pause
        return pause

    @property
    def has_failed(self) -> bool:
        """Return whether anything has failed."""
        return self.failures > 0

    @property
    def is_over(self) -> bool:
        """Return whether the pause has ended."""
        return time.monotonic() >= self._end


class Sender:
    """Sends the events of a spool, which only one sender at a time can use."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._spool = Spool(settings.spool, settings.slurm_state)
        # Events that killed a sender, and how often.
        self._attempts: dict[str, int] = {}
        # The last of the waiting events of each job.
        self._last_names: dict[str, str] = {}
        self._counters = Counters(self._spool.counters)
        self._resolver = EndStateResolver(
            self._spool, settings.environment, self._attempts, self._counters
        )
        self._client = Client(settings)
        self._dispatcher = Dispatcher(settings, self._spool, self._client, self._counters)
        self._batcher = Batcher(self._spool, settings, self._dispatcher)
        self._outage, self._outage_since = Backoff(), 0.0
        self._backoff_by_job: dict[str, Backoff] = {}
        self._errors_in_a_row = 0
        self._num_sent = 0
        self._next_metrics = 0.0

    def run(self) -> None:
        """Check the settings, then send events until stopped; raises SpoolError."""
        with self._spool.exclusive():
            self._start()
            problem = self._client.check()
            if problem:
                _log.error("the settings do not work: %s", problem)
            while True:
                self.tick()
                time.sleep(_TICK_SECONDS)

    def run_once(self) -> bool:
        """Send what can be sent now, and return whether the spool is empty; raises SpoolError."""
        with self._spool.exclusive():
            self._start()
            before = len(self._spool.events()) + 1
            while self._outage.is_over and len(self._spool.events()) < before:
                before = len(self._spool.events())
                self.tick()
            return not self._spool.events()

    def tick(self) -> None:
        """Resolve end states, then send events for some seconds; raises SpoolError."""
        self._spool.check()
        deadline = time.monotonic() + _PASS_SECONDS
        try:
            # During an outage thousands wait, and most sites have no epilogs.
            if self._spool.events_of_kind(EPILOG):
                self._resolver.resolve(self._in_order(self._spool.events()), deadline)
        except OSError as error:
            self._pause(Result(Verdict.UNAVAILABLE, f"cannot use the spool: {error}"))
        if self._outage.is_over:
            for name in self._spool.dead_letters():
                if self._spool.reason(name).startswith(UNAUTHORIZED_STATUSES):
                    self._spool.requeue(name)
            self._send_events(self._in_order(self._spool.events()))
        if time.monotonic() >= self._next_metrics:
            self._next_metrics = time.monotonic() + _METRICS_INTERVAL
            self._spool.clean_up()
            status.write_metrics(self._spool, self._counters, self._settings.metrics_file)
        with contextlib.suppress(OSError):
            self._counters.save()

    def _start(self) -> None:
        """Handle what an earlier sender left behind."""
        with contextlib.suppress(OSError):
            status.save_outage(self._spool, None)
        self._look_for_crash()

    def _look_for_crash(self) -> None:
        """Find out whether an event killed the sender; one that does so again is a dead letter."""
        name, crashes = self._spool.crash()
        if crashes >= _MAX_CRASHES:
            self._dead_letter(name, f"the sender died {crashes} times while it read this event")
        elif name:
            _log.warning("the sender died while it read %s, which will be sent last", name)
            self._attempts[name] = crashes

    def _in_order(self, names: list[str]) -> list[str]:
        """Return the events, with those of jobs that have failed before at the end."""
        last = {job_id_of(name) for name in self._attempts} | self._backoff_by_job.keys()
        return sorted(names, key=lambda name: job_id_of(name) in last)

    def _send_events(self, names: list[str]) -> None:
        """Send events in order; an event that has to wait holds back the later ones of its job."""
        deadline = time.monotonic() + _PASS_SECONDS
        waiting = {job for job, backoff in self._backoff_by_job.items() if not backoff.is_over}
        by_jobcomp = jobs_reported_by_jobcomp(self._spool, names)
        names = self._send_batches(names, waiting, by_jobcomp, deadline)
        self._last_names = {job_id_of(name): name for name in names}
        for name in names if self._outage.is_over else ():
            job = job_id_of(name)
            if job in waiting:
                continue
            try:
                if not self._send(name, reported_by_jobcomp=job in by_jobcomp):
                    waiting.add(job)
            except OSError as error:
                self._pause(Result(Verdict.UNAVAILABLE, f"cannot use the spool: {error}"))
            if not self._outage.is_over or time.monotonic() > deadline:
                return

    def _send_batches(
        self, names: list[str], waiting: set[str], by_jobcomp: set[str], deadline: float
    ) -> list[str]:
        """Send events in batches, and return those that are left to send one by one.

        A batch has one event of each job, because the next one may depend on its answer. While
        ccapi works on one, the events of another leave the queue, and the next one is collected.
        """
        alone = set(waiting)
        self._batcher.discard()
        while True:
            while self._batcher.has_room and self._outage.is_over and time.monotonic() < deadline:
                batch: list[Line] = []
                if len(names) > _MIN_BATCH:
                    batch = self._batcher.collect(names, alone, by_jobcomp, self._attempts)
                if len(batch) <= _MIN_BATCH:
                    break
                self._batcher.begin(batch)
            if not self._batcher.jobs:
                return names
            try:
                results = self._batcher.end()
            except BatchFailed as failure:
                if failure.outage:
                    self._pause(failure.outage)
                return names
            sent = self._handle_all(results)
            names = [name for name in names if name not in sent]
            failed = {job_id_of(line.name) for line, _ in results if line.name not in sent}
            waiting |= failed
            alone |= failed

    def _handle_all(self, results: list[tuple[Line, Result]]) -> set[str]:
        """Act on the results of a batch, and return the events that have left the queue."""
        sent: set[str] = set()
        # Successes first, because they end an outage.
        for line, result in sorted(results, key=lambda pair: pair[1].verdict not in SUCCESS):
            if line.report is not None:
                self._dispatcher.record(line.report, result)
            if self._handle(line.name, result):
                sent.add(line.name)
        return sent

    def _send(self, name: str, *, reported_by_jobcomp: bool) -> bool:
        """Send one event, and return whether it has left the queue; raises OSError."""
        try:
            self._spool.begin_attempt(name, self._attempts.get(name, 0) + 1)
            event = self._spool.read(name)
            result = (
                self._report(name, event, reported_by_jobcomp=reported_by_jobcomp)
                if event
                else None
            )
        except OSError:
            # The spool is at fault, not this event.
            raise
        except Exception as error:
            is_known = isinstance(error, BrokenEvent)
            self._dead_letter(name, str(error) if is_known else f"{type(error).__name__}: {error}")
            return True
        finally:
            self._spool.end_attempt()
        return result is not None and self._handle(name, result)

    def _report(self, name: str, event: Event, *, reported_by_jobcomp: bool) -> Optional[Result]:
        """Report one event; None if how its job ended is not yet known."""
        if number := event.get("CCAPI_CHECK"):
            replace(self._spool.check_result, f"{number} {self._client.check()}")
            return NOTHING_TO_REPORT
        if event.kind == PROLOG:
            return self._dispatcher.report_start(event)
        if event.kind == EPILOG and reported_by_jobcomp:
            return NOTHING_TO_REPORT
        if event.kind == JOBCOMP:
            end_state = end_states.from_jobcomp(event)
            if end_state == NO_END:
                self._counters.add(counters.RESIZES)
                is_last = self._last_names.get(job_id_of(name)) == name
                return self._dispatcher.report_resize(event, is_last=is_last)
            if end_state is None:
                end_state = self._resolver.resolve_unknown_state(name, event)
        else:
            end_state = self._spool.load_end_state(name)
        return self._dispatcher.report_end(event, end_state) if end_state else None

    def _handle(self, name: str, result: Result) -> bool:
        """Act on the result of an event, and return whether the event has left the queue."""
        verdict, job = result.verdict, job_id_of(name)
        if verdict in _MAY_PASS and self._is_hopeless(job):
            verdict = Verdict.REJECTED
        if verdict in SUCCESS:
            self._spool.discard(name)
        elif verdict in _REFUSALS:
            self._dead_letter(name, result.message)
        if verdict in {Verdict.UNAVAILABLE, Verdict.UNAUTHORIZED}:
            self._pause(result)
        elif verdict in _MAY_PASS:
            # Events of other jobs may overtake this one, unless several fail in a row.
            _log.warning("%s failed and will be sent again: %s", name, result.message)
            backoff = self._backoff_by_job.setdefault(job, Backoff(self._num_sent))
            backoff.fail(result.retry_after)
            self._errors_in_a_row += 1
            if self._errors_in_a_row >= _ERRORS_BEFORE_PAUSE or result.retry_after:
                self._pause(result)
        else:
            if self._outage.has_failed:
                _log.warning("ccapi is available again")
                status.save_outage(self._spool, None)
            self._backoff_by_job.pop(job, None)
            self._attempts.pop(name, None)
            self._errors_in_a_row = 0
            self._outage = Backoff()
            self._num_sent += verdict in SUCCESS
        return verdict is not Verdict.UNAVAILABLE and verdict not in _MAY_PASS

    def _is_hopeless(self, job: str) -> bool:
        """Return whether a job's event has failed often, while ccapi took those of others."""
        backoff = self._backoff_by_job.get(job)
        if backoff is None or backoff.failures < _MAX_FAILURES:
            return False
        return self._num_sent > backoff.num_sent_before

    def _dead_letter(self, name: str, reason: str) -> None:
        _log.error("%s is a dead letter: %s", name, reason)
        self._counters.add(counters.DEAD_LETTERS)
        self._spool.dead_letter(name, reason)

    def _pause(self, result: Result) -> None:
        if not self._outage.is_over:
            return
        if not self._outage.has_failed:
            _log.warning("ccapi is unavailable, events wait in the spool: %s", result.message)
            self._outage_since = time.time()
        pause = self._outage.fail(result.retry_after)
        outage = status.Outage(result.message, self._outage_since, time.time() + pause)
        with contextlib.suppress(OSError):
            status.save_outage(self._spool, outage)
