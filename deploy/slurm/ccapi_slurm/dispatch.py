"""What one event leads to: which requests, and what is remembered of the job."""

from typing import Optional

from ccapi_slurm import record, requests, slurm
from ccapi_slurm.delivery import Answer, Registry, Verdict
from ccapi_slurm.endings import Ending
from ccapi_slurm.event import JOBCOMP, Event
from ccapi_slurm.record import Record
from ccapi_slurm.settings import Settings
from ccapi_slurm.spool import Run, Spool

OK = {Verdict.DONE, Verdict.KNOWN}
NOTHING_TO_DO = Answer(Verdict.DONE, "nothing to report")
# jobcomp and the epilog may both tell an end, by different clocks.
_SAME_END_SECONDS = 60


class Dispatcher:
    """Turns events into requests, and keeps account of the jobs' runs in the spool.

    Whatever interrupts it, an event may be dispatched again as a whole.
    """

    def __init__(self, settings: Settings, spool: Spool, registry: Registry) -> None:
        self._settings, self._spool, self._registry = settings, spool, registry

    def prolog(self, event: Event) -> Answer:
        """Report a start."""
        found = record.find(event.record, event.job_id, event.job_name)
        return self._start(event, found, requests.start_time(event, found))

    def end(self, event: Event, ending: Ending) -> Answer:
        """Report an end, and the start before it if that was lost."""
        run = self._spool.run(event.job_id)
        if run is not None and run.stop_time:
            if ending.stop_time <= run.stop_time + _SAME_END_SECONDS:
                return NOTHING_TO_DO
            run = None
        if run is None and _ran(event, ending):
            answer = self._start(event, self._look(event), ending.start_time)
            if answer.verdict not in OK:
                return answer
            run = self._spool.run(event.job_id)
        if run is None and event.kind == JOBCOMP:
            # Cancelled before it ever ran.
            return NOTHING_TO_DO
        return self._stop(event, ending, run)

    def _start(self, event: Event, found: Optional[Record], start_time: int) -> Answer:
        body = requests.start(event, self._settings.cluster, found, start_time)
        answer = self._registry.send("start_job", body)
        if answer.verdict in OK and not self._has_started(event, start_time):
            is_exact = answer.verdict is Verdict.DONE
            self._spool.keep_run(event.job_id, Run(start_time, is_exact))
        return answer

    def _has_started(self, event: Event, start_time: int) -> bool:
        """Tell whether this start was reported before an interruption."""
        run = self._spool.run(event.job_id)
        return run is not None and run.start_time == start_time

    def _stop(self, event: Event, ending: Ending, run: Optional[Run]) -> Answer:
        # The start time that was reported selects the run, for Slurm's own may have changed.
        start_time = run.start_time if run and run.is_exact else 0
        body = requests.stop(event, self._settings.cluster, ending, start_time)
        answer = self._registry.send("stop_job", body)
        if answer.verdict in OK and run is not None:
            self._spool.keep_run(event.job_id, run._replace(stop_time=ending.stop_time))
        return answer

    def _look(self, event: Event) -> Optional[Record]:
        try:
            return slurm.look(event, self._settings.environment)
        except slurm.NoAnswer:
            return None


def _ran(event: Event, ending: Ending) -> bool:
    """Tell whether a job ever had nodes; one that was cancelled before has none."""
    return bool(ending.start_time and event.get("SLURM_JOB_NODELIST", "NODES"))
