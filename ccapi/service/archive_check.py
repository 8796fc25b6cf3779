"""Compare the archive with the database."""

import time
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ccapi.archive import layout, meta_json, pack, reader
from ccapi.context import Context
from ccapi.errors import ArchiveError
from ccapi.model.job import Job, JobKey
from ccapi.repository import jobs, pruned_jobs
from ccapi.repository.jobs import RunRef

NO_META_JSON = "has no meta.json"
_BATCH_SIZE = 500
# How long a current request may take to complete what looks incomplete.
_RECHECK_DELAY_SECONDS = 1


class Finding(NamedTuple):
    """One difference; `kind` is missing, broken or orphaned."""

    kind: str
    path: Path
    reason: str


def check(context: Context) -> Iterator[Finding]:
    """Compare every finished job with its meta.json, and every meta.json with its job.

    A pruned job has its meta.json, and no job in the database. Reads in batches, in constant
    memory, while the service may run.
    """
    with pack.kept_open():
        broken = dict(pack_problems(context.archive_root))
        yield from (Finding("broken", path, problem) for path, problem in broken.items())
        yield from check_jobs(context)
        yield from check_files(context)
        yield from check_pruned(context, broken)
        yield from check_directories(context.archive_root)


def pack_problems(root: Path) -> Iterator[tuple[Path, str]]:
    """Find every pack that cannot be read, with the reason; reads all packs."""
    for path in reader.pack_paths(root):
        if problem := pack.problem(path):
            yield path, problem


def check_jobs(context: Context) -> Iterator[Finding]:
    """Compare every finished job with its meta.json."""
    root = context.archive_root
    for batch in finished_jobs(context):
        documents = reader.read_batch(root, [job.key for job in batch if job.is_archived])
        # The same bytes nearly always, which saves reading them as JSON.
        suspects = [
            job
            for job in batch
            if not job.is_archived or documents.get(job.key) != meta_json.encode(job)
        ]
        suspects = [job for job in suspects if compare(root, job)]
        if suspects:
            time.sleep(_RECHECK_DELAY_SECONDS)
        for suspect in suspects:
            with context.database.connection() as conn:
                job = jobs.get(conn, suspect.id or 0)
            finding = job and compare(root, job)
            if finding:
                yield finding


def finished_jobs(context: Context) -> Iterator[list[Job]]:
    """Read the jobs that are in the archive or should be, in batches."""
    after_id = 0
    while True:
        with context.database.connection() as conn:
            batch = jobs.list_finished(conn, after_id, _BATCH_SIZE)
        yield batch
        if len(batch) < _BATCH_SIZE:
            return
        after_id = batch[-1].id or 0


def compare(root: Path, job: Job) -> Finding | None:
    """Compare a finished job with its meta.json; None when they agree."""
    path = layout.meta_path(root, job.key)
    if not job.is_archived:
        return Finding("missing", path, "not archived yet; run `ccapi archive retry`")
    try:
        expected = meta_json.encode(job)
        if reader.read_bytes(root, job.key) == expected:
            return None
        archived = reader.read(root, job.key)
    except reader.MissingMetaJson:
        return Finding("missing", path, f"the database says that id {job.id} is archived")
    except ArchiveError as error:
        return Finding("broken", path, str(error))
    if meta_json.encode(archived) != expected:
        return Finding("broken", path, f"differs from the database, id {job.id}")
    return None


def check_files(context: Context) -> Iterator[Finding]:
    """Find every meta.json whose job is not in the database, or still runs there."""
    root = context.archive_root
    yield from (finding for _, finding in _check_keys(context, reader.tree_keys(root)))
    for key, finding in _check_keys(context, reader.packed_keys(root)):
        # A job that changed since it was packed is in the tree, too.
        if not reader.is_in_tree(root, key):
            yield finding


def _check_keys(context: Context, keys: Iterator[JobKey]) -> Iterator[tuple[JobKey, Finding]]:
    while batch := list(islice(keys, _BATCH_SIZE)):
        with context.database.connection() as conn:
            runs = jobs.find_by_keys(conn, batch)
            pruned = pruned_jobs.find(conn, [key for key in batch if key not in runs])
        for key in batch:
            if key not in runs and key not in pruned:
                kind, reason = "orphaned", "no such job in the database"
            elif key in runs and runs[key].is_running:
                kind, reason = "broken", still_running(runs[key])
            else:
                continue
            yield key, Finding(kind, layout.meta_path(context.archive_root, key), reason)


def check_pruned(context: Context, broken_packs: Collection[Path] = ()) -> Iterator[Finding]:
    """Find every job that was pruned from the database, and whose meta.json is missing or broken.

    A pack that cannot be read is reported once, unless it is known to be broken.
    """
    root, last = context.archive_root, pruned_jobs.FIRST
    reported = set(broken_packs)
    while True:
        with context.database.connection() as conn:
            batch = pruned_jobs.list_after(conn, last, _BATCH_SIZE)
        documents = reader.read_batch(root, batch)
        for key in batch:
            try:
                finding = _check_only_copy(root, key, documents.get(key))
            except ArchiveError as error:
                place = layout.pack_path(root, key) or layout.meta_path(root, key)
                finding = None if place in reported else Finding("broken", place, str(error))
                reported.add(place)
            if finding is not None:
                yield finding
        if len(batch) < _BATCH_SIZE:
            return
        last = batch[-1]


def _check_only_copy(root: Path, key: JobKey, data: bytes | None) -> Finding | None:
    """Check a pruned job's meta.json; raises ArchiveError for a pack that cannot be read."""
    if data is not None and meta_json.belongs_to(data, key):
        return None
    path = layout.meta_path(root, key)
    if not reader.exists(root, key):
        reason = "was pruned from the database, and the archive had the only copy"
        return Finding("missing", path, reason)
    if data is not None:
        try:
            reader.read(root, key, [])
        except ArchiveError as error:
            return Finding("broken", path, str(error))
    return None


def still_running(run: RunRef) -> str:
    """Return the reason for a file whose job runs in the database, as after a restore."""
    return f"the database says that id {run.id} is still running; stop it with the end in this file"


def check_directories(root: Path) -> Iterator[Finding]:
    """Find every run's directory without meta.json."""
    suspects = reader.incomplete_directories(root)
    while batch := list(islice(suspects, _BATCH_SIZE)):
        time.sleep(_RECHECK_DELAY_SECONDS)
        for directory in filter(reader.is_incomplete, batch):
            yield Finding("broken", directory, NO_META_JSON)
