"""Send many events with one request, where ccapi can do that."""

import json
import logging
import time
from collections.abc import Mapping
from typing import NamedTuple, Optional

from ccapi_slurm import end_states
from ccapi_slurm.client import Client, Result, Verdict
from ccapi_slurm.dispatch import NOTHING_TO_REPORT, Dispatcher, Report
from ccapi_slurm.event import EPILOG, JOBCOMP
from ccapi_slurm.spool import Spool, job_id_of, kind_of

_log = logging.getLogger(__name__)

# ccapi's limit. Many proxies refuse a body of more than 1 MiB.
_MAX_LINES, _MAX_BYTES = 1000, 900 * 1024
_MAX_LINE_BYTES = 100 * 1024
# An older ccapi may be upgraded; another failure may pass.
_MISSING_SECONDS, _FAILURE_SECONDS = 3600, 60


class BatchFailed(Exception):
    """A batch has no results: because of an outage, or events have to be sent one by one."""

    def __init__(self, outage: Optional[Result]) -> None:
        super().__init__(outage)
        self.outage = outage


class Line(NamedTuple):
    """An event, and its line in a batch; None if there is nothing to report."""

    name: str
    report: Optional[Report]
    data: bytes


class Batcher:
    """Collects events whose reports are single requests, and sends them together."""

    def __init__(self, spool: Spool, client: Client, dispatcher: Dispatcher) -> None:
        self._spool, self._client, self._dispatcher = spool, client, dispatcher
        self._next = 0.0
        self._batch: list[Line] = []

    def collect(
        self,
        names: list[str],
        alone: set[str],
        being_sent: set[str],
        by_jobcomp: set[str],
        attempts: Mapping[str, int],
    ) -> list[Line]:
        """Return the first event of each job, as far as they fit.

        Leaves out the jobs in `alone` and in `being_sent`. Adds the jobs whose first event cannot
        be in a batch to `alone`.
        """
        batch: list[Line] = []
        jobs = set(being_sent)
        size = 0
        if time.monotonic() < self._next:
            return batch
        for name in names:
            job = job_id_of(name)
            if job in jobs or job in alone:
                continue
            if kind_of(name) == EPILOG and job in by_jobcomp:
                line: Optional[Line] = Line(name, None, b"")
            else:
                line = self._prepare(name, attempts.get(name, 0) + 1)
            if line is None or len(line.data) > _MAX_LINE_BYTES:
                alone.add(job)
                continue
            size += len(line.data) + 1
            if size > _MAX_BYTES or len(batch) == _MAX_LINES:
                break
            jobs.add(job)
            batch.append(line)
        return batch

    def begin(self, batch: list[Line]) -> None:
        """Send a batch without waiting for its results, which `end` returns."""
        self._batch = batch
        lines = [line.data for line in batch if line.report is not None]
        if lines:
            self._client.begin_batch(lines)

    def end(self) -> list[tuple[Line, Result]]:
        """Return the result of each event of the batch that was begun; raises BatchFailed."""
        batch, self._batch = self._batch, []
        nothing = [(line, NOTHING_TO_REPORT) for line in batch if line.report is None]
        lines = [line for line in batch if line.report is not None]
        if not lines:
            return nothing
        result, results = self._client.end_batch()
        if result.verdict is Verdict.ACCEPTED:
            return nothing + list(zip(lines, results))
        is_missing = result.message.startswith(("404 ", "405 "))
        if result.verdict is Verdict.UNAVAILABLE and not is_missing:
            raise BatchFailed(result)
        _log.info("events are sent one by one: %.200s", result.message)
        self._next = time.monotonic() + (_MISSING_SECONDS if is_missing else _FAILURE_SECONDS)
        raise BatchFailed(None)

    def _prepare(self, name: str, attempt: int) -> Optional[Line]:
        """Return the line of an event; None if it has to be sent alone, which finds out why."""
        try:
            self._spool.begin_attempt(name, attempt)
            event = self._spool.read(name)
            if event is None:
                return None
            end_state = None
            if event.kind == JOBCOMP:
                end_state = end_states.from_jobcomp(event)
            elif event.kind == EPILOG:
                end_state = self._spool.load_end_state(name)
            report = self._dispatcher.prepare(event, end_state)
            if report is None:
                return None
            line = {report.operation.partition("_")[0]: report.body}
            return Line(name, report, json.dumps(line, ensure_ascii=False).encode())
        except Exception as error:
            _log.info("%s is sent alone: %s", name, error)
            return None
        finally:
            self._spool.end_attempt()
