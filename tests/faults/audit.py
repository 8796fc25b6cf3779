"""Audit a series: compare database and archive with the answers of the service."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from psycopg.rows import class_row

from ccapi.archive import layout, reader
from ccapi.errors import ArchiveError
from ccapi.model.job import JobKey
from tests.faults.ledger import NO_ANSWER, Attempt, Key, Promise, promises
from tests.faults.series import Series

_WINDOW = 60
_STILL_FAILING_SECONDS = 5
_FINDING = re.compile(r"^(missing|broken|orphaned) +(/\S+): (.*)$", re.MULTILINE)


class Row(NamedTuple):
    """A job in the database."""

    job_id: int
    cluster: str
    start_time: int
    id: int
    job_state: str
    stop_time: int | None
    monitoring_status: int
    tags: list[str]

    @property
    def key(self) -> Key:
        """Return the run's key."""
        return (self.cluster, self.job_id, self.start_time)


@dataclass
class Verdict:
    """Descriptions of all deviations from what the service promised.

    `debris` are temporary files of killed writers, directories of jobs that were deleted before
    their meta.json was written, and obstacles of a fault.
    """

    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    debris: list[str] = field(default_factory=list)


class Tolerance(NamedTuple):
    """Which failures a fault may cause: "operation status", "status", and how slow a 503 may be.

    With `rewrites`, an archived job may wait to be archived again, because an edit came late.
    """

    failures: frozenset[str] = frozenset()
    slowest: float | None = None
    rewrites: bool = False


def audit(series: Series, tolerance: Tolerance) -> Verdict:
    """Compare, run `ccapi archive retry`, and compare again."""
    verdict = Verdict()
    promised = promises(series.ledger.attempts)
    before = _rows(series)
    _compare_unarchived(series.archive, promised, before, verdict, rewrites=tolerance.rewrites)
    retried = series.command("archive", "retry")
    if retried.returncode != 0:
        verdict.wrong.append(f"archive retry: {retried.stdout} {retried.stderr}")
    rows = _rows(series)
    _compare_rows(promised, rows, verdict)
    _compare_archive(series.archive, promised, rows, verdict)
    _find_duplicates(rows, verdict)
    _check(series, promised, verdict)
    verdict.wrong += _unexcused_answers(series, tolerance)
    verdict.debris += (str(path) for path in series.archive.rglob(".meta.json.[0-9]*.*"))
    return verdict


def _rows(series: Series) -> dict[Key, Row]:
    query = """
        SELECT job_id, cluster, start_time, id, job_state, stop_time, monitoring_status,
               ARRAY(SELECT t.name FROM job_tags AS jt JOIN tags AS t ON t.id = jt.tag
                     WHERE jt.job = d.id ORDER BY t.name) AS tags
        FROM job_details AS d
    """
    with (
        series.administrator(series.database) as conn,
        conn.cursor(row_factory=class_row(Row)) as c,
    ):
        return {row.key: row for row in c.execute(query)}


def _compare_unarchived(
    root: Path,
    promised: dict[Key, Promise],
    rows: dict[Key, Row],
    verdict: Verdict,
    *,
    rewrites: bool,
) -> None:
    """Before the retry, each confirmed stop is archived or in the queue."""
    for key, promise in promised.items():
        row = rows.get(key)
        if promise.stop is None or row is None:
            continue
        expected = (1, 2, 3) if promise.is_monitored else (0,)
        if row.monitoring_status not in expected:
            verdict.wrong.append(f"{key}: stopped, monitoring status {row.monitoring_status}")
        is_archived = row.monitoring_status == 3 or (rewrites and promise.archived == 3)
        if promise.archived == 3 and not is_archived:
            verdict.lost.append(f"{key}: answered as archived, status {row.monitoring_status}")
        if is_archived and not layout.meta_path(root, JobKey(*key)).is_file():
            verdict.lost.append(f"{key}: archived without a meta.json")


def _compare_rows(promised: dict[Key, Promise], rows: dict[Key, Row], verdict: Verdict) -> None:
    for key, promise in promised.items():
        row = rows.get(key)
        if promise.is_unfinished or not promise.is_started:
            verdict.wrong.append(f"{key}: the client reached its deadline")
        elif promise.is_deleted:
            if row is not None:
                verdict.wrong.append(f"{key}: deleted, and in the database")
        elif row is None:
            verdict.lost.append(f"{key}: started, and not in the database")
        else:
            _compare_row(promise, row, verdict)
    verdict.wrong += (
        f"{key}: in the database, and not started" for key in rows.keys() - promised.keys()
    )


def _compare_row(promise: Promise, row: Row, verdict: Verdict) -> None:
    if promise.id != row.id:
        verdict.wrong.append(f"{row.key}: id {row.id}, but {promise.id} in the answer")
    if missing := promise.tags - set(row.tags):
        verdict.lost.append(f"{row.key}: tags {missing}")
    if added := set(row.tags) - promise.tags:
        verdict.wrong.append(f"{row.key}: unknown tags {added}")
    state, stop_time = "running", None
    if promise.stop is not None:
        state, stop_time = promise.stop["jobState"], promise.stop["stopTime"]
    if (row.job_state, row.stop_time) != (state, stop_time):
        kind = verdict.lost if row.job_state == "running" else verdict.wrong
        kind.append(f"{row.key}: {row.job_state} {row.stop_time}, not {state} {stop_time}")


def _compare_archive(
    root: Path, promised: dict[Key, Promise], rows: dict[Key, Row], verdict: Verdict
) -> None:
    """After the retry, every stopped job is archived, and its file is right."""
    for key, row in rows.items():
        promise = promised.get(key)
        if promise is None or promise.stop is None or not promise.is_archivable:
            continue
        if row.monitoring_status != 3:
            verdict.lost.append(f"{key}: not archived after the retry")
            continue
        try:
            archived = reader.read(root, JobKey(*key))
        except ArchiveError as error:
            verdict.lost.append(f"{key}: {error}")
            continue
        end = (archived.job_state, archived.stop_time)
        stop = (promise.stop["jobState"], max(key[2] + 1, promise.stop["stopTime"]))
        if end != stop:
            verdict.wrong.append(f"{key}: meta.json has {end}, not {stop}")
        if missing := [tag for tag in promise.tags if f'"{tag}"' not in archived.tags]:
            verdict.lost.append(f"{key}: meta.json misses tags {missing}")


def _find_duplicates(rows: dict[Key, Row], verdict: Verdict) -> None:
    starts: dict[tuple[str, int], list[int]] = defaultdict(list)
    for cluster, job_id, start_time in sorted(rows):
        starts[cluster, job_id].append(start_time)
    for number, times in starts.items():
        for earlier, later in pairwise(times):
            if later - earlier <= _WINDOW:
                verdict.duplicated.append(f"{number}: starts {earlier} and {later}")


def _check(series: Series, promised: dict[Key, Promise], verdict: Verdict) -> None:
    """Record the findings of `ccapi archive check` that no deletion and no fault explains."""
    checked = series.command("archive", "check")
    findings = _FINDING.findall(checked.stdout)
    if checked.returncode != (1 if findings else 0):
        verdict.wrong.append(f"archive check: {checked.returncode}: {checked.stdout}")
    for kind, path, reason in findings:
        directory = Path(path).parent if path.endswith(layout.META_FILE) else Path(path)
        key = layout.parse(directory.relative_to(series.archive).parts)
        promise = promised.get((*key,)) if key else None
        is_deleted = promise is not None and promise.is_deleted
        if (is_deleted and reason.endswith("has no meta.json")) or (
            directory in series.planted and promise is not None and not promise.is_archivable
        ):
            verdict.debris.append(path)
        elif not (is_deleted and kind == "orphaned"):
            verdict.wrong.append(f"archive check: {kind} {path}: {reason}")


def _unexcused_answers(series: Series, tolerance: Tolerance) -> Iterator[str]:
    """Yield the answers that the fault does not excuse."""
    tried: Counter[tuple[Key, str]] = Counter()
    for attempt in sorted(series.ledger.attempts, key=lambda attempt: attempt.sent):
        event = (attempt.key, f"{attempt.operation} {attempt.event}")
        failed = attempt.status == NO_ANSWER or attempt.status >= 500
        if failed:
            tried[event] += 1
            yield from _unexcused_failure(series, tolerance, attempt)
        elif attempt.is_repeated and not tried[event] and series.setup.twins == 1:
            yield f"{attempt.key}: {attempt.operation} rejected at the first try: {attempt.text}"
        elif not attempt.is_success and not attempt.is_repeated:
            yield f"{attempt.key}: {attempt.operation}: {attempt.status} {attempt.text}"


def _unexcused_failure(series: Series, tolerance: Tolerance, attempt: Attempt) -> Iterator[str]:
    took = attempt.answered - attempt.sent
    what = f"{attempt.key}: {attempt.operation}: {attempt.status} after {took:.1f} s {attempt.text}"
    excuses = {str(attempt.status), f"{attempt.operation} {attempt.status}"}
    is_malformed = attempt.status == 503 and attempt.text
    if is_malformed or not excuses & tolerance.failures:
        yield what
    elif attempt.status == 503 and tolerance.slowest and took > tolerance.slowest:
        yield f"{what}: later than {tolerance.slowest:.1f} s"
    elif _is_long_after(series, attempt):
        yield f"{what}: long after the end of the fault"


def _is_long_after(series: Series, attempt: Attempt) -> bool:
    healed = [s.healed for s in series.strikes if s.begin <= attempt.answered]
    return attempt.sent - max(healed, default=attempt.sent) > _STILL_FAILING_SECONDS
