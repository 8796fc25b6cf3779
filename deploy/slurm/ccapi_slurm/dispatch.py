"""Report events to ccapi, and record each job's last run in the spool."""

import contextlib
import logging
from typing import Any, NamedTuple, Optional

from ccapi_slurm import counters, job_record, request_body, slurm
from ccapi_slurm.client import Client, Result, Verdict
from ccapi_slurm.counters import Counters
from ccapi_slurm.end_states import NO_END, EndState
from ccapi_slurm.event import JOBCOMP, PROLOG, Event
from ccapi_slurm.job_record import JobRecord
from ccapi_slurm.settings import Settings
from ccapi_slurm.spool import Run, Spool

_log = logging.getLogger(__name__)

SUCCESS = {Verdict.ACCEPTED, Verdict.DUPLICATE}
NOTHING_TO_REPORT = Result(Verdict.ACCEPTED, "nothing to report")
# What request_body.smaller_bodies leaves out, in its order.
_REDUCTIONS = ("threads", "script", "metadata")
# jobcomp and the epilog may both report an end, by different clocks.
_SAME_END_SECONDS = 60


class Report(NamedTuple):
    """A request about an event, and its job's run after a success."""

    operation: str
    body: dict[str, Any]
    job_id: int
    run: Optional[Run]


class Dispatcher:
    """Turns events into requests; after an interruption an event can be dispatched again."""

    def __init__(self, settings: Settings, spool: Spool, client: Client, tally: Counters) -> None:
        self._settings, self._spool, self._client = settings, spool, client
        self._counters = tally

    def prepare(self, event: Event, end_state: Optional[EndState]) -> Optional[Report]:
        """Return the report of an event that needs exactly one request, else None."""
        if event.kind == PROLOG:
            return self._start_report(event)
        run = self._spool.load_run(event.job_id)
        if run is None or run.stop_time or end_state is None or end_state == NO_END:
            return None
        return self._stop_report(event, end_state, run)

    def record(self, report: Report, result: Result) -> None:
        """Save the run of a report that was sent."""
        if result.verdict not in SUCCESS or report.run is None:
            return
        run = report.run
        if report.operation == "start_job":
            before = self._spool.load_run(report.job_id)
            if before is not None and before.start_time == run.start_time:
                # A repeated report must not replace the run that the first one recorded.
                return
            run = run._replace(is_exact=result.verdict is Verdict.ACCEPTED)
        self._spool.save_run(report.job_id, run)

    def report_start(self, event: Event) -> Result:
        """Report the start that a prolog recorded."""
        return self._send_start(self._start_report(event))

    def report_end(self, event: Event, end_state: EndState) -> Result:
        """Report the end of a run, after its start if that was lost."""
        if end_state == NO_END:
            return NOTHING_TO_REPORT
        run = self._spool.load_run(event.job_id)
        if run is not None and run.stop_time:
            if end_state.stop_time <= run.stop_time + _SAME_END_SECONDS:
                return NOTHING_TO_REPORT
            run = None
        # A job that was cancelled before it started has no nodes.
        has_run = end_state.start_time and event.get("SLURM_JOB_NODELIST", "NODES")
        if run is None and has_run:
            record = None
            with contextlib.suppress(slurm.SlurmError):
                record = slurm.show_job(event, self._settings.environment)
            result = self._send_start(self._report_of_start(event, record, end_state.start_time))
            if result.verdict not in SUCCESS:
                return result
            run = self._spool.load_run(event.job_id)
        if run is None and event.kind == JOBCOMP:
            return NOTHING_TO_REPORT
        report = self._stop_report(event, end_state, run)
        result = self._send(report.operation, report.body)
        self.record(report, result)
        return result

    def _start_report(self, event: Event) -> Report:
        record = job_record.find(event.record, event)
        if record is None:
            self._counters.add(counters.MISSING_RECORDS)
            _log.warning("job %d: no record in the output of scontrol", event.job_id)
        elif record.unclear:
            self._counters.add(counters.UNCLEAR_RECORDS)
            unclear = ", ".join(record.unclear)
            _log.warning("job %d: the output of scontrol is not clear: %s", event.job_id, unclear)
        return self._report_of_start(event, record, request_body.start_time(event, record))

    def _report_of_start(
        self, event: Event, record: Optional[JobRecord], start_time: int
    ) -> Report:
        body = request_body.start_job(event, self._settings.cluster, record, start_time)
        return Report("start_job", body, event.job_id, Run(start_time, is_exact=True))

    def _stop_report(self, event: Event, end_state: EndState, run: Optional[Run]) -> Report:
        # The reported start time identifies the run; Slurm's own may have changed since.
        start_time = run.start_time if run and run.is_exact else 0
        body = request_body.stop_job(event, self._settings.cluster, end_state, start_time)
        ended = run._replace(stop_time=end_state.stop_time) if run else None
        return Report("stop_job", body, event.job_id, ended)

    def _send_start(self, report: Report) -> Result:
        """Send a start; leave out more and more while it is too large for ccapi or a proxy."""
        for attempt, smaller in enumerate(request_body.smaller_bodies(report.body)):
            result = self._send(report.operation, smaller)
            if result.verdict not in {Verdict.TOO_LARGE, Verdict.BROKEN}:
                if attempt and result.verdict in SUCCESS:
                    self._counters.add(counters.REDUCED_STARTS)
                    left_out = ", ".join(_REDUCTIONS[:attempt])
                    _log.warning("job %d registered without %s", report.job_id, left_out)
                break
        self.record(report, result)
        return result

    def _send(self, operation: str, body: dict[str, Any]) -> Result:
        # The event was read without harm; what happens from here on is not its fault.
        self._spool.end_attempt()
        return self._client.send(operation, body)
