"""Running the faults, and the table of what came of them."""

import math
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ccapi.embedded import PrivatePostgres, find_installations
from tests.faults import archive_faults, database_faults, process_faults
from tests.faults.audit import Verdict, audit
from tests.faults.bench import Bench, running
from tests.faults.fault import Fault
from tests.faults.ledger import NO_ANSWER

ALL = (*process_faults.FAULTS, *database_faults.FAULTS, *archive_faults.FAULTS)
_SETTINGS = {"max_connections": "40", "superuser_reserved_connections": "0"}
_SHOWN = 5
_COLUMNS = "{:<48}{:>6}{:>10}{:>8}{:>11}{:>6}{:>7}{:>7}{:>10}{:>8}{:>11}"


@dataclass
class Outcome:
    """A row of the table; of times, `slowest` is a 503's and `longest` any answer's."""

    fault: Fault
    times: int = 0
    in_flight: int = 0
    requests: int = 0
    recovery: float = 0
    slowest: float = 0
    longest: float = 0
    failed: int = 0
    skipped: str = ""
    verdict: Verdict = field(default_factory=Verdict)

    @property
    def is_good(self) -> bool:
        """Tell whether nothing is lost, twice or wrong, and the service came back in time."""
        verdict = self.verdict
        return (
            not (verdict.lost or verdict.duplicated or verdict.wrong)
            and self.recovery < self.fault.recovery_seconds
        )

    def line(self) -> str:
        """Write the row."""
        if self.skipped:
            return f"{self.fault.name:<48}  skipped: {self.skipped}"
        verdict = self.verdict
        return _COLUMNS.format(
            self.fault.name, self.times, self.requests, self.failed, self.in_flight,
            len(verdict.lost), len(verdict.duplicated), len(verdict.wrong),
            f"{self.recovery:.2f} s", f"{self.slowest:.1f} s" if self.slowest else "-",
            f"{self.longest:.1f} s",
        )  # fmt: skip


def header() -> str:
    """Name the columns."""
    return _COLUMNS.format(
        "fault", "times", "requests", "failed", "in flight", "lost", "twice", "wrong",
        "recovery", "503 in", "answer in",
    )  # fmt: skip


def shares(faults: Sequence[Fault], count: int) -> list[int]:
    """Divide a number of injections among the faults by weight; it is reached, not missed."""
    whole = sum(fault.weight for fault in faults)
    return [math.ceil(count * fault.weight / whole) for fault in faults]


@contextmanager
def server() -> Iterator[tuple[PrivatePostgres, Path]]:
    """Run a PostgreSQL that survives kill -9, on a real disk; leave nothing of it behind."""
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
    """Inject a fault a number of times under load, fewer when time is up, and audit."""
    if reason := fault.obstacle():
        return Outcome(fault, skipped=reason)
    name = f"faults_{time.monotonic_ns()}"
    place = directory / name
    place.mkdir()
    outcome = Outcome(fault)
    deadline = time.monotonic() + seconds
    with fault.surroundings(place), running(postgres, place, name, fault.setup) as bench:
        try:
            while outcome.times < times and not (outcome.times and time.monotonic() > deadline):
                fault.inject(bench)
                outcome.times += 1
        except (TimeoutError, AssertionError) as error:
            bench.complaints.append(f"injection {outcome.times + 1}: {error}")
        if not bench.finish():
            bench.complaints.append("the clients did not end")
        outcome.verdict = audit(bench, fault.tolerance)
        _measure(outcome, bench)
    shutil.rmtree(place, ignore_errors=True)
    return outcome


def _measure(outcome: Outcome, bench: Bench) -> None:
    attempts = bench.ledger.attempts
    outcome.requests = len(attempts)
    outcome.verdict.wrong += bench.complaints
    for strike in bench.strikes:
        outcome.in_flight += sum(
            1 for one in attempts if one.sent < strike.healed and one.answered > strike.begin
        )
        if strike.recovery is None:
            outcome.verdict.wrong.append("the service did not recover")
        outcome.recovery = max(outcome.recovery, strike.recovery or 0)
    took = [(one.status, one.answered - one.sent) for one in attempts]
    outcome.slowest = max((seconds for status, seconds in took if status == 503), default=0)
    outcome.longest = max((seconds for status, seconds in took if status), default=0)
    outcome.failed = sum(1 for one in attempts if one.status == NO_ANSWER or one.status >= 500)


def details(outcome: Outcome) -> Iterator[str]:
    """Name the first of what is not as promised."""
    verdict = outcome.verdict
    if verdict.debris:
        yield f"    left, and harmless: {len(verdict.debris)}, as {verdict.debris[0]}"
    for kind in ("lost", "duplicated", "wrong"):
        found: list[str] = getattr(verdict, kind)
        for text in found[:_SHOWN]:
            yield f"    {kind}: {text}"
        if len(found) > _SHOWN:
            yield f"    {kind}: and {len(found) - _SHOWN} more"
