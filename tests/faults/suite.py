"""Run the faults and write a table of the results."""

import math
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ccapi.embedded import PrivatePostgres, find_installations
from tests.faults import archive_faults, company_faults, database_faults, process_faults
from tests.faults.audit import Verdict, audit
from tests.faults.fault import Fault
from tests.faults.ledger import NO_ANSWER
from tests.faults.series import Series, running

ALL = (
    *process_faults.FAULTS,
    *database_faults.FAULTS,
    *archive_faults.FAULTS,
    *company_faults.FAULTS,
)
_SETTINGS = {"max_connections": "40", "superuser_reserved_connections": "0"}
_MAX_DETAILS = 5
_COLUMNS = "{:<58}{:>6}{:>10}{:>8}{:>11}{:>6}{:>7}{:>7}{:>10}{:>8}{:>11}"


@dataclass
class Outcome:
    """A row of the table; `slowest_503` and `slowest` are times of answers."""

    fault: Fault
    times: int = 0
    in_flight: int = 0
    requests: int = 0
    recovery: float = 0
    slowest_503: float = 0
    slowest: float = 0
    failed: int = 0
    skipped: str = ""
    verdict: Verdict = field(default_factory=Verdict)

    @property
    def is_good(self) -> bool:
        """Return whether nothing is lost, duplicated or wrong, and the recovery was in time."""
        verdict = self.verdict
        return (
            not (verdict.lost or verdict.duplicated or verdict.wrong)
            and self.recovery < self.fault.recovery_seconds
        )

    def line(self) -> str:
        """Return the row as text."""
        if self.skipped:
            return f"{self.fault.name:<58}  skipped: {self.skipped}"
        verdict = self.verdict
        return _COLUMNS.format(
            self.fault.name, self.times, self.requests, self.failed, self.in_flight,
            len(verdict.lost), len(verdict.duplicated), len(verdict.wrong),
            f"{self.recovery:.2f} s", f"{self.slowest_503:.1f} s" if self.slowest_503 else "-",
            f"{self.slowest:.1f} s",
        )  # fmt: skip


def header() -> str:
    """Return the headings of the columns."""
    return _COLUMNS.format(
        "fault", "times", "requests", "failed", "in flight", "lost", "twice", "wrong",
        "recovery", "503 in", "answer in",
    )  # fmt: skip


def shares(faults: Sequence[Fault], count: int) -> list[int]:
    """Divide a number of injections among the faults by weight, rounded up."""
    whole = sum(fault.weight for fault in faults)
    return [math.ceil(count * fault.weight / whole) for fault in faults]


@contextmanager
def server() -> Iterator[tuple[PrivatePostgres, Path]]:
    """Run a PostgreSQL that survives kill -9, on a real disk; remove its files afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="ccapi-faults-", dir="/var/tmp"))
    directory.chmod(0o755)
    newest = max(find_installations(), key=lambda installation: installation.major)
    try:
        with PrivatePostgres(
            directory / "postgresql", newest, durable=True, settings=_SETTINGS
        ) as postgres:
            yield postgres, directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def run(
    postgres: PrivatePostgres, directory: Path, fault: Fault, times: int, seconds: float = 600
) -> Outcome:
    """Inject a fault under load `times` times, or for `seconds`, and audit."""
    if reason := fault.obstacle():
        return Outcome(fault, skipped=reason)
    name = f"faults_{time.monotonic_ns()}"
    path = directory / name
    path.mkdir()
    outcome = Outcome(fault)
    deadline = time.monotonic() + seconds
    with fault.surroundings(path), running(postgres, path, name, fault.setup) as series:
        try:
            while outcome.times < times and not (outcome.times and time.monotonic() > deadline):
                fault.inject(series)
                outcome.times += 1
        except (TimeoutError, AssertionError) as error:
            series.complaints.append(f"injection {outcome.times + 1}: {error}")
        if not series.finish():
            series.complaints.append("the clients did not end")
        outcome.verdict = audit(series, fault.tolerance)
        _measure(outcome, series)
    shutil.rmtree(path, ignore_errors=True)
    return outcome


def _measure(outcome: Outcome, series: Series) -> None:
    attempts = series.ledger.attempts
    outcome.requests = len(attempts)
    outcome.verdict.wrong += series.complaints
    for strike in series.strikes:
        outcome.in_flight += sum(
            1 for one in attempts if one.sent < strike.healed and one.answered > strike.begin
        )
        if strike.recovery is None:
            outcome.verdict.wrong.append("the service did not recover")
        outcome.recovery = max(outcome.recovery, strike.recovery or 0)
    times = [(one.status, one.answered - one.sent) for one in attempts]
    outcome.slowest_503 = max((seconds for status, seconds in times if status == 503), default=0)
    outcome.slowest = max((seconds for status, seconds in times if status), default=0)
    outcome.failed = sum(1 for one in attempts if one.status == NO_ANSWER or one.status >= 500)


def details(outcome: Outcome) -> Iterator[str]:
    """Yield the first deviations of each kind."""
    verdict = outcome.verdict
    if verdict.debris:
        yield f"    harmless remains: {len(verdict.debris)}, such as {verdict.debris[0]}"
    for kind in ("lost", "duplicated", "wrong"):
        deviations: list[str] = getattr(verdict, kind)
        for text in deviations[:_MAX_DETAILS]:
            yield f"    {kind}: {text}"
        if len(deviations) > _MAX_DETAILS:
            yield f"    {kind}: and {len(deviations) - _MAX_DETAILS} more"
