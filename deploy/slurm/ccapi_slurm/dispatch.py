"""Report events to ccapi, and record each job's last run in the spool."""

import contextlib
import logging
from typing import Any, NamedTuple, Optional

from ccapi_slurm import counters, hostlist, job_record, request_body, slurm
from ccapi_slurm.client import Client, Result, Verdict
from ccapi_slurm.counters import Counters
from ccapi_slurm.end_states import NO_END, EndState
from ccapi_slurm.event import JOBCOMP, PROLOG, Event
from ccapi_slurm.job_record import JobRecord
from ccapi_slurm.settings import Settings
from ccapi_slurm.spool import Run, Spool

_log = logging.getLogger(__name__)

SUCCESS = {Verdict.ACCEPTED, Verdict.DUPLICATE}
# A report of hosts that ccapi refuses must not hold back the end of the job.
_UNSETTLED = {Verdict.ERROR, Verdict.UNAVAILABLE, Verdict.UNAUTHORIZED}
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
        if _has_other_hosts(event, run):
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

    def report_resize(self, event: Event, *, is_last: bool) -> Result:
        """Report that a running job has other hosts.

        jobcomp runs just before the change, and the event has the hosts until then. The job's next
        event has the new ones; unless it waits already, Slurm is asked for them.
        """
        run = self._spool.load_run(event.job_id)
        if run is None or run.stop_time:
            return NOTHING_TO_REPORT
        result = self._report_former_hosts(event, run, int(event.time))
        if result.verdict in _UNSETTLED or not is_last:
            return result
        try:
            present = slurm.with_present_hosts(event, self._settings.environment)
            record = slurm.show_job(present, self._settings.environment) if present else None
        except slurm.SlurmError as error:
            _log.warning("cannot ask slurmctld for the hosts of job %d: %s", event.job_id, error)
            return NOTHING_TO_REPORT
        if present is None:
            return NOTHING_TO_REPORT
        _log.info("job %d was resized: it runs on %.200s", event.job_id, present.host_list)
        return self._send_hosts(present, record, run, event.get_int("END") or int(event.time))

    def _report_lost_start(self, event: Event, start_time: int) -> Result:
        record = None
        with contextlib.suppress(slurm.SlurmError):
            record = slurm.show_job(event, self._settings.environment)
        return self._send_start(self._report_of_start(event, record, start_time))

    def _report_former_hosts(self, event: Event, run: Optional[Run], until: int) -> Result:
        """Report the hosts that an event's job had until then, if ccapi has others."""
        if run is None or not _has_other_hosts(event, run):
            return NOTHING_TO_REPORT
        # After a resize, START is its time. An epilog does not know when that was.
        return self._send_hosts(event, None, run, event.get_int("START") or until)

    def _send_hosts(
        self, event: Event, record: Optional[JobRecord], run: Run, resize_time: int
    ) -> Result:
        start_time = run.start_time if run.is_exact else 0
        body = request_body.resize_job(
            event, self._settings.cluster, record, start_time, resize_time
        )
        for smaller in request_body.smaller_bodies(body):
            result = self._send("resize_job", smaller)
            if result.verdict not in {Verdict.TOO_LARGE, Verdict.BROKEN}:
                break
        if result.message.startswith(("404 ", "405 ")):
            # An older ccapi cannot do that; the job keeps its hosts.
            return NOTHING_TO_REPORT
        if result.verdict in SUCCESS:
            self._spool.save_run(event.job_id, run._replace(hosts=event.host_list))
        return result

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
        if run is None and end_state.start_time and event.host_list:
            result = self._report_lost_start(event, end_state.start_time)
            if result.verdict not in SUCCESS:
                return result
            run = self._spool.load_run(event.job_id)
        if run is None and event.kind == JOBCOMP:
            return NOTHING_TO_REPORT
        result = self._report_former_hosts(event, run, end_state.stop_time)
        if result.verdict in _UNSETTLED:
            return result
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
        run = Run(start_time, is_exact=True, hosts=event.host_list)
        return Report("start_job", body, event.job_id, run)

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


def _has_other_hosts(event: Event, run: Run) -> bool:
    """Return whether an event's job has other hosts than ccapi."""
    if not run.hosts or event.host_list in {"", run.hosts}:
        return False
    try:
        return set(event.hosts) != set(hostlist.expand(run.hosts))
    except ValueError:
        return False
