"""Whether archive and database say the same."""

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ccapi.archive import meta_json as document, layout, reader
from ccapi.errors import ArchiveError
from ccapi.model.job import Job, JobKey
from ccapi.repository import jobs
from ccapi.repository.jobs import Match
from ccapi.context import Registry

NO_DOCUMENT = "holds no meta.json"
_BATCH = 500
# How long a request that is under way may take to finish what looks unfinished.
_SETTLING_SECONDS = 1


class Finding(NamedTuple):
    """One thing that is not as it should be; `kind` is missing, broken or orphaned."""

    kind: str
    path: Path
    reason: str


def check(registry: Registry) -> Iterator[Finding]:
    """Compare every finished job with its meta.json, and every meta.json with its job.

    Reads in batches, in constant memory; the service may go on meanwhile.
    """
    yield from _of_jobs(registry)
    yield from check_files(registry)
    yield from check_directories(registry.archive_root)


def finished_jobs(registry: Registry) -> Iterator[list[Job]]:
    """Read the jobs that are in the archive or should be, in batches."""
    after_id = 0
    while True:
        with registry.database.statement() as conn:
            batch = jobs.list_archivable(conn, after_id, _BATCH)
        yield batch
        if len(batch) < _BATCH:
            return
        after_id = batch[-1].id or 0


def _of_jobs(registry: Registry) -> Iterator[Finding]:
    for batch in finished_jobs(registry):
        suspects = [job for job in batch if compare(registry.archive_root, job)]
        if suspects:
            time.sleep(_SETTLING_SECONDS)
        for suspect in suspects:
            yield from _still(registry, suspect)


def _still(registry: Registry, suspect: Job) -> Iterator[Finding]:
    """Look again at a job that a request may have been working on."""
    with registry.database.statement() as conn:
        job = jobs.get(conn, suspect.id or 0)
    finding = job and compare(registry.archive_root, job)
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
    except reader.MissingDocument:
        return Finding("missing", path, f"the database says that id {job.id} is archived")
    except ArchiveError as error:
        return Finding("broken", path, str(error))
    if document.encode(archived) != document.encode(job):
        return Finding("broken", path, f"differs from the database, id {job.id}")
    return None


def check_files(registry: Registry) -> Iterator[Finding]:
    """Find every meta.json whose job is not in the database, or still runs there."""
    root = registry.archive_root
    keys = reader.keys(root)
    while batch := list(islice(keys, _BATCH)):
        with registry.database.statement() as conn:
            known = jobs.known_runs(conn, batch)
        for key in batch:
            path = layout.meta_path(root, key)
            if key not in known:
                yield Finding("orphaned", path, "no such job in the database")
            elif known[key].is_running:
                yield Finding("broken", path, still_runs(known[key]))


def still_runs(run: Match) -> str:
    """Say that the database knows less of a job than the archive, as after a restore."""
    return f"the database says that id {run.id} still runs; stop it as this file says"


def check_directories(root: Path) -> Iterator[Finding]:
    """Find every run's directory without meta.json."""
    suspects = reader.incomplete(root)
    while batch := list(islice(suspects, _BATCH)):
        time.sleep(_SETTLING_SECONDS)
        for directory in filter(reader.is_incomplete, batch):
            yield Finding("broken", directory, NO_DOCUMENT)
