"""Send many events with one request, where ccapi can do that."""

import json
import logging
import time
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple, Optional

from ccapi_slurm import end_states
from ccapi_slurm.client import Client, Result, Verdict
from ccapi_slurm.dispatch import NOTHING_TO_REPORT, Dispatcher, Report
from ccapi_slurm.event import EPILOG, JOBCOMP
from ccapi_slurm.settings import Settings
from ccapi_slurm.spool import Spool, job_id_of, kind_of

_log = logging.getLogger(__name__)

# ccapi's limit. Many proxies refuse a body of more than 1 MiB.
_MAX_LINES, _MAX_BYTES = 1000, 900 * 1024
_MAX_LINE_BYTES = 100 * 1024
# While ccapi waits for the disk of one, it works on the other.
_MAX_BATCHES = 2
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

    def __init__(self, spool: Spool, settings: Settings, dispatcher: Dispatcher) -> None:
        self._spool, self._dispatcher = spool, dispatcher
        self._idle = [Client(settings) for _ in range(_MAX_BATCHES)]
        self._next = 0.0
        self._begun: deque[tuple[Client, list[Line]]] = deque()

    def collect(
        self,
        names: list[str],
        alone: set[str],
        by_jobcomp: set[str],
        attempts: Mapping[str, int],
    ) -> list[Line]:
        """Return the first event of each job, as far as they fit.

        Leaves out the jobs in `alone`, and those in the batches that were begun. Adds the jobs
        whose first event cannot be in a batch to `alone`.
        """
        batch: list[Line] = []
        jobs = self.jobs
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

    @property
    def has_room(self) -> bool:
        """Return whether another batch can be begun."""
        return bool(self._idle)

    @property
    def jobs(self) -> set[str]:
        """Return the jobs of the batches that were begun."""
        return {job_id_of(line.name) for _, batch in self._begun for line in batch}

    def begin(self, batch: list[Line]) -> None:
        """Send a batch without waiting for its results, which `end` returns."""
        client = self._idle.pop()
        self._begun.append((client, batch))
        lines = [line.data for line in batch if line.report is not None]
        if lines:
            client.begin_batch(lines)

    def end(self) -> list[tuple[Line, Result]]:
        """Return the result of each event of the batch that was begun first.

        Raises BatchFailed; then the other batches have no results either.
        """
        client, batch = self._begun.popleft()
        self._idle.append(client)
        nothing = [(line, NOTHING_TO_REPORT) for line in batch if line.report is None]
        lines = [line for line in batch if line.report is not None]
        if not lines:
            return nothing
        result, results = client.end_batch()
        if result.verdict is Verdict.ACCEPTED:
            return nothing + list(zip(lines, results))
        self.discard()
        is_missing = result.message.startswith(("404 ", "405 "))
        if result.verdict is Verdict.UNAVAILABLE and not is_missing:
            raise BatchFailed(result)
        _log.info("events are sent one by one: %.200s", result.message)
        self._next = time.monotonic() + (_MISSING_SECONDS if is_missing else _FAILURE_SECONDS)
        raise BatchFailed(None)

    def discard(self) -> None:
        """Give up all batches that were begun; sending their events again is safe."""
        for client, _ in self._begun:
            client.close()
            self._idle.append(client)
        self._begun.clear()

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
