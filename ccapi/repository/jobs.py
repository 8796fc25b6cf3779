"""Jobs in PostgreSQL: sql/queries/jobs.sql."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import orjson
import psycopg
from psycopg.rows import class_row, scalar_row

from ccapi.errors import DuplicateJob, TooSlow
from ccapi.model.job import (MAX_INTEGER, Job, JobFilter, JobKey, JobSelection, JobState, NewJob, ListPosition, Range)
from ccapi.repository import codec as packing
from ccapi.db import queries
from ccapi.db.pool import Connection

_SQL = queries.load("jobs")
# The jobs of a rare tag are looked up, 4 us each; a common one is met often on the way.
_MANY_TAGGED = 10_000
_NO_TAG = 0
# A host's jobs are looked for in so many periods of three days, then in so many times more.
_PERIODS, _MORE_PERIODS = 2, 8


@dataclass(slots=True, kw_only=True)
class RunRef:
    """A run that a request's selection found; enough to tell it from others."""

    id: int
    job_id: int
    cluster: str
    start_time: int
    job_state: str

    @property
    def is_running(self) -> bool:
        """Tell whether the run has not been stopped yet."""
        return self.job_state == JobState.RUNNING

    def __str__(self) -> str:
        """Describe the run for a message."""
        return (
            f"id {self.id} (jobId {self.job_id} on {self.cluster}, "
            f"startTime {self.start_time}, {self.job_state})"
        )


class Page(NamedTuple):
    """Which part of a list is wanted: after a place, `offset` jobs are skipped first."""

    offset: int
    limit: int
    after: ListPosition | None = None


class Parts(NamedTuple):
    """Which of the large parts of jobs are read; the others are as if there were none."""

    metadata: bool = False
    resources: bool = True
    statistics: bool = True
    tags: bool = True


class Claim(Enum):
    """What became of the wish to archive a stopped job."""

    NOT_WAITING = "not waiting"
    CHANGED = "changed since it stopped"
    AS_STOPPED = "as it stopped"


_NO_PARTS = Parts(metadata=False, resources=False, statistics=False, tags=False)


class Batch(NamedTuple):
    """Jobs of a list, and the place to go on from; None at the list's end."""

    jobs: list[Job]
    end: ListPosition | None


class Deleted(NamedTuple):
    """How many jobs a batch deleted, and the latest start it looked at; None at the end."""

    number: int
    latest_start: int | None


def insert(conn: Connection, job: NewJob, duplicate_window: int) -> int:
    """Register a running job with its tags and return its database id.

    It is one statement, which needs no transaction around it. Raises DuplicateJob when a
    run of the same cluster and job id starts within `duplicate_window` seconds of it.
    """
    row = conn.execute(_SQL["insert_job"], _insert_parameters(job, duplicate_window)).fetchone()
    id_, duplicate = row or (None, None)
    if id_ is None:
        raise DuplicateJob(
            f"jobId {job.job_id} with startTime {job.start_time} is registered already "
            f"on cluster {job.cluster}: its database id is {duplicate}",
            duplicate,
        )
    return int(id_)


def _insert_parameters(job: NewJob, duplicate_window: int) -> dict[str, object]:
    return {
        "job_id": job.job_id,
        "cluster": job.cluster,
        "start_time": job.start_time,
        "user_name": job.user_name,
        "project": job.project,
        "sub_cluster": job.sub_cluster,
        "partition": job.partition,
        "array_job_id": job.array_job_id,
        "num_nodes": job.num_nodes,
        "num_hwthreads": job.num_hwthreads,
        "num_acc": job.num_acc,
        "exclusive": job.exclusive,
        "smt": job.smt,
        "walltime": job.walltime,
        "monitoring_status": job.monitoring_status,
        "resources": packing.resources(job.resources),
        "hosts": orjson.dumps(job.hostnames).decode(),
        "meta_data": packing.meta_data(job.meta_data),
        "statistics": packing.statistics(job.statistics),
        "tags": orjson.dumps([tag._asdict() for tag in job.tags]).decode() if job.tags else None,
        "window": duplicate_window,
    }


def match(conn: Connection, selection: JobSelection, limit: int) -> list[RunRef]:
    """Find at most `limit` runs that a selection means, running ones first, then the latest."""
    with conn.cursor(row_factory=class_row(RunRef)) as cursor:
        parameters = {**selection._asdict(), "limit": limit}
        return cursor.execute(_SQL["match_jobs"], parameters).fetchall()


def get_run(conn: Connection, id_: int) -> RunRef | None:
    """Find one run by its database id."""
    with conn.cursor(row_factory=class_row(RunRef)) as cursor:
        return cursor.execute(_SQL["get_match"], {"id": id_}).fetchone()


def stop(conn: Connection, id_: int, job_state: str, stop_time: int) -> bool:
    """Give a running job its final state; False when it is not running (any more)."""
    parameters = {"id": id_, "job_state": job_state, "stop_time": stop_time}
    return conn.execute(_SQL["stop_job"], parameters).rowcount == 1


def get(conn: Connection, id_: int) -> Job | None:
    """Read one job."""
    with conn.cursor(row_factory=packing.job_row) as cursor:
        return cursor.execute(_SQL["get_job"], {"id": id_}).fetchone()


def lock(conn: Connection, id_: int) -> bool:
    """Hold a job, to change it, until the end of the transaction; False when there is none."""
    is_there = conn.execute(_SQL["lock_job"], {"id": id_}).rowcount == 1
    conn.execute(_SQL["note_change"], {"id": id_})
    return is_there


def claim_for_archiving(conn: Connection, id_: int) -> Claim:
    """Take a stopped job from the work list, and hold it there until the transaction's end."""
    row = conn.execute(_SQL["claim_for_archiving"], {"id": id_}).fetchone()
    if row is None:
        return Claim.NOT_WAITING
    return Claim.CHANGED if row[0] else Claim.AS_STOPPED


def mark_archiving_failed(conn: Connection, id_: int) -> None:
    """Note that a stopped job could not be archived."""
    conn.execute(_SQL["mark_archiving_failed"], {"id": id_})


def list_page(conn: Connection, wanted: JobFilter, page: Page, parts: Parts) -> list[Job]:
    """Read a page of the jobs that match, latest start first.

    Jobs of a host are looked for in the latest few days, then in more: so it is not to read
    all that ever ran there.
    """
    listed = list_parameters(page, parts)
    latest = page.after.start_time if page.after else MAX_INTEGER
    periods: int | None = None if wanted.host is None else _PERIODS
    while True:
        chosen = filter_params(conn, wanted, latest, periods)
        if chosen["hosts"] == []:
            return []
        with timeout_as_too_slow(), conn.cursor(row_factory=packing.job_row) as cursor:
            found = cursor.execute(
                _SQL["list_jobs"], {**chosen, **listed}, prepare=False
            ).fetchall()
        if periods is None or len(found) == page.limit or len(chosen["hosts"]) < periods:
            return found
        periods *= _MORE_PERIODS


def list_parameters(page: Page, parts: Parts) -> dict[str, object]:
    """Return what a list's query takes beside the filter."""
    return {
        "after_start_time": page.after and page.after.start_time,
        "after_id": page.after and page.after.id,
        "offset": page.offset,
        "limit": page.limit,
        **{f"with_{name}": is_read for name, is_read in parts._asdict().items()},
    }


def count(conn: Connection, wanted: JobFilter) -> int:
    """Count all jobs that match; raises TooSlow."""
    with timeout_as_too_slow():
        parameters = filter_params(conn, wanted)
        [number] = conn.execute(_SQL["count_jobs"], parameters, prepare=False).fetchone() or [0]
    return int(number)


@contextmanager
def timeout_as_too_slow() -> Iterator[None]:
    """Tell a question that is too large from a database that does not answer."""
    try:
        yield
    except psycopg.errors.QueryCanceled as error:
        raise TooSlow(f"it takes the database too long: {error}") from error


def filter_params(
    conn: Connection,
    wanted: JobFilter,
    latest: int = MAX_INTEGER,
    periods: int | None = None,
) -> dict[str, Any]:
    """Return the parameters of a query that chooses jobs by a filter.

    A host's jobs started at `latest`, and in the last `periods` before.
    """
    parameters = _filter_parameters(wanted)
    if wanted.tag is not None:
        given = {"type": wanted.tag.type, "name": wanted.tag.name, "many": _MANY_TAGGED}
        id_, is_common = conn.execute(_SQL["find_tag"], given).fetchone() or (_NO_TAG, False)
        parameters["common_tag" if is_common else "rare_tag"] = id_
    if wanted.host is not None:
        least, most = wanted.start_time or (0, MAX_INTEGER)
        bounds = {"start_from": least, "start_to": min(most, latest), "most": periods}
        with conn.cursor(row_factory=scalar_row) as cursor:
            cursor.execute(_SQL["host_periods"], {"host": wanted.host, **bounds})
            parameters["hosts"] = cursor.fetchall()
    return parameters


def _filter_parameters(wanted: JobFilter) -> dict[str, Any]:
    return {
        **_states(wanted.states),
        **_bounds("start", wanted.start_time),
        **_bounds("stop", wanted.stop_time),
        **_bounds("nodes", wanted.num_nodes),
        **_bounds("duration", wanted.duration),
        "cluster": wanted.cluster,
        "sub_cluster": wanted.sub_cluster,
        "partition": wanted.partition,
        "user_name": wanted.user_name,
        "project": wanted.project,
        "job_id": wanted.job_id,
        "array_job_id": wanted.array_job_id,
        "hosts": None,
        "rare_tag": None,
        "common_tag": None,
        "now": wanted.now,
    }


def _bounds(name: str, wanted: Range | None) -> dict[str, int | None]:
    least, most = wanted or (None, None)
    return {f"{name}_from": least, f"{name}_to": most}


def _states(states: Sequence[str] | None) -> dict[str, str | None]:
    """Give one state as it is, and several as an array in PostgreSQL's notation.

    So they are constants of the enum's type to the planner, which then sees which index is
    for them; a list would be cast by row.
    """
    match sorted(set(states or ())):
        case []:
            return {"state": None, "states": None}
        case [state]:
            return {"state": state, "states": None}
        case several:
            return {"state": None, "states": "{" + ",".join(several) + "}"}


def batches(
    conn: Connection, wanted: JobFilter, page: Page, parts: Parts, batch_size: int
) -> Iterator[Batch]:
    """Read a page of any length in batches, each continuing where the last one ended.

    There is at least one. Each is read with the job after it, which tells whether the
    list goes on.
    """
    left = page.limit
    while left > 0:
        size = min(batch_size, left)
        found = list_page(conn, wanted, page._replace(limit=size + 1), parts)
        batch = Batch(found[:size], _place(found[size - 1]) if len(found) > size else None)
        yield batch
        left -= size
        if batch.end is None:
            return
        page = Page(0, left, batch.end)


def find_end(conn: Connection, wanted: JobFilter, page: Page) -> ListPosition | None:
    """Find the place after a page without reading it; None at the list's end."""
    offset = min(page.offset + page.limit - 1, MAX_INTEGER)
    last = list_page(conn, wanted, page._replace(offset=offset, limit=2), _NO_PARTS)
    return _place(last[0]) if len(last) > 1 else None


def _place(job: Job) -> ListPosition:
    assert job.id is not None
    return ListPosition(job.start_time, job.id)


def list_archivable(conn: Connection, after_id: int, limit: int) -> list[Job]:
    """Read stopped jobs that want archiving, archived or not, in order of id."""
    with conn.cursor(row_factory=packing.job_row) as cursor:
        parameters = {"after_id": after_id, "limit": limit}
        return cursor.execute(_SQL["list_archivable"], parameters).fetchall()


def list_unarchived(conn: Connection, after_id: int, limit: int) -> list[int]:
    """Name stopped jobs that are not archived yet, in order of id."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        parameters = {"after_id": after_id, "limit": limit}
        return cursor.execute(_SQL["list_unarchived"], parameters).fetchall()


def find_by_keys(conn: Connection, keys: Sequence[JobKey]) -> dict[JobKey, RunRef]:
    """Find those of the given runs that the registry holds."""
    parameters = {
        "clusters": [key.cluster for key in keys],
        "job_ids": [key.job_id for key in keys],
        "start_times": [key.start_time for key in keys],
    }
    with conn.cursor(row_factory=class_row(RunRef)) as cursor:
        found = cursor.execute(_SQL["known_runs"], parameters)
        return {JobKey(run.cluster, run.job_id, run.start_time): run for run in found}


def delete(conn: Connection, id_: int) -> bool:
    """Delete one job; False when there is none."""
    return conn.execute(_SQL["delete_job"], {"id": id_}).rowcount == 1


def delete_before(conn: Connection, before: int, limit: int, since: int = 0) -> Deleted:
    """Delete at most `limit` jobs that started before a time, the oldest since another."""
    parameters = {"since": since, "before": before, "limit": limit}
    row = conn.execute(_SQL["delete_jobs_before"], parameters).fetchone()
    return Deleted(*(row or (0, None)))
