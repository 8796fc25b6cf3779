"""Compare the archive with the database."""

from pathlib import Path
from typing import NamedTuple
import time
from collections.abc import Iterator
from itertools import islice
from ccapi.archive import meta_json, layout, reader
from ccapi.errors import ArchiveError
from ccapi.model.job import Job, JobKey
from ccapi.repository import jobs
from ccapi.repository.jobs import RunRef
from ccapi.context import Context


DONE = ("archived", "replaced", "removed", "imported", "already there")
LEFT = ("failed", "bad", "orphaned", "undecided")


class RepairAction(NamedTuple):
    """One thing that was done, or was left as it is; `kind` is of DONE or of LEFT.

    `path` and `reason` say more where one is to look at it.
    """

    kind: str
    path: Path | None = None
    reason: str = ""


NO_META_JSON = "holds no meta.json"
_BATCH = 500
# How long a request that is under way may take to finish what looks unfinished.
_RECHECK_DELAY_SECONDS = 1


class Finding(NamedTuple):
    """One thing that is not as it should be; `kind` is missing, broken or orphaned."""

    kind: str
    path: Path
    reason: str


def check(context: Context) -> Iterator[Finding]:
    """Compare every finished job with its meta.json, and every meta.json with its job.

    Reads in batches, in constant memory; the service may go on meanwhile.
    """
    yield from _of_jobs(context)
    yield from check_files(context)
    yield from check_directories(context.archive_root)


def finished_jobs(context: Context) -> Iterator[list[Job]]:
    """Read the jobs that are in the archive or should be, in batches."""
    after_id = 0
    while True:
        with context.database.statement() as conn:
            batch = jobs.list_archivable(conn, after_id, _BATCH)
        yield batch
        if len(batch) < _BATCH:
            return
        after_id = batch[-1].id or 0


def _of_jobs(context: Context) -> Iterator[Finding]:
    for batch in finished_jobs(context):
        suspects = [job for job in batch if compare(context.archive_root, job)]
        if suspects:
            time.sleep(_RECHECK_DELAY_SECONDS)
        for suspect in suspects:
            yield from _still(context, suspect)


def _still(context: Context, suspect: Job) -> Iterator[Finding]:
    """Look again at a job that a request may have been working on."""
    with context.database.statement() as conn:
        job = jobs.get(conn, suspect.id or 0)
    finding = job and compare(context.archive_root, job)
    if finding:
        yield finding


def compare(root: Path, job: Job) -> Finding | None:
    """Compare a finished job with its meta.json; None when they say the same."""
    key = JobKey(job.cluster, job.job_id, job.start_time)
    path = layout.meta_path(root, key)
    if not job.is_archived:
        return Finding("missing", path, "not archived yet; run `ccapi archive retry`")
    try:
        archived = reader.read(root, key)
    except reader.MissingMetaJson:
        return Finding("missing", path, f"the database says that id {job.id} is archived")
    except ArchiveError as error:
        return Finding("broken", path, str(error))
    if meta_json.encode(archived) != meta_json.encode(job):
        return Finding("broken", path, f"differs from the database, id {job.id}")
    return None


def check_files(context: Context) -> Iterator[Finding]:
    """Find every meta.json whose job is not in the database, or still runs there."""
    root = context.archive_root
    keys = reader.keys(root)
    while batch := list(islice(keys, _BATCH)):
        with context.database.statement() as conn:
            known = jobs.find_by_keys(conn, batch)
        for key in batch:
            path = layout.meta_path(root, key)
            if key not in known:
                yield Finding("orphaned", path, "no such job in the database")
            elif known[key].is_running:
                yield Finding("broken", path, still_runs(known[key]))


def still_runs(run: RunRef) -> str:
    """Say that the database knows less of a job than the archive, as after a restore."""
    return f"the database says that id {run.id} still runs; stop it as this file says"


def check_directories(root: Path) -> Iterator[Finding]:
    """Find every run's directory without meta.json."""
    suspects = reader.incomplete(root)
    while batch := list(islice(suspects, _BATCH)):
        time.sleep(_RECHECK_DELAY_SECONDS)
        for directory in filter(reader.is_incomplete, batch):
            yield Finding("broken", directory, NO_META_JSON)
