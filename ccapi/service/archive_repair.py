"""Database and archive are brought into agreement, and nothing is lost on the way."""

import time
from collections.abc import Iterator
from pathlib import Path

from ccapi.archive import layout, reader, writer
from ccapi.errors import ArchiveError, DatabaseUnavailable
from ccapi.model.job import Job
from ccapi.repository import jobs
from ccapi.service import (archive as archiving, archive_check as checking, archive_import as importing)
from ccapi.service.archive_check import Finding
from ccapi.context import Registry
from ccapi.service.steps import Step

# A writer that is at a file for longer is dead.
_WRITING_SECONDS = 3600


def repair(
    registry: Registry, tree: Path | None = None, *, dry_run: bool = False
) -> Iterator[Step]:
    """Make archive and database agree; yield what was done, and what was left as it is.

    For a job that it holds, the database is right. `tree` is an archive whose jobs it is
    to take in: our own one for its orphans, or another. Safe while the service runs, and
    to be interrupted at any moment. Raises ArchiveError when the archive is not there.
    """
    root = registry.archive_root
    writer.find(root)
    yield from _archive_waiting(registry, dry_run=dry_run)
    yield from _rewrite_spoilt(registry, dry_run=dry_run)
    if tree is not None:
        yield from importing.import_tree(registry, tree, dry_run=dry_run)
    yield from _remove_temporaries(root, dry_run=dry_run)
    yield from _clear_directories(registry, dry_run=dry_run)
    if tree is None or not importing.is_own(registry, tree):
        for kind, path, reason in checking.check_files(registry):
            yield Step("orphaned" if kind == "orphaned" else "undecided", path, reason)


def _archive_waiting(registry: Registry, *, dry_run: bool) -> Iterator[Step]:
    """Do what a retry does; the log says why a job cannot be archived."""
    if not dry_run:
        for job in archiving.retry(registry):
            yield Step("archived" if job.is_archived else "failed")
        return
    for batch in checking.finished_jobs(registry):
        yield from (Step("archived") for job in batch if not job.is_archived)


def _rewrite_spoilt(registry: Registry, *, dry_run: bool) -> Iterator[Step]:
    for batch in checking.finished_jobs(registry):
        for job in batch:
            if job.is_archived and checking.compare(registry.archive_root, job):
                yield from _rewrite(registry, job, dry_run=dry_run)


def _rewrite(registry: Registry, suspect: Job, *, dry_run: bool) -> Iterator[Step]:
    """Archive a job again from the database, its row held as when it was archived first."""
    root = registry.archive_root
    try:
        with registry.database.transaction() as conn:
            assert suspect.id is not None
            job = jobs.get(conn, suspect.id) if jobs.lock(conn, suspect.id) else None
            finding = checking.compare(root, job) if job and job.is_archived else None
            kept = writer.replace(root, job) if job and finding and not dry_run else None
    except (ArchiveError, DatabaseUnavailable) as error:
        yield Step("failed", layout.meta_path(root, layout.key_of(suspect)), str(error))
        return
    if finding:
        yield _rewritten(finding, kept)


def _rewritten(finding: Finding, kept: str | None) -> Step:
    if finding.kind == "missing":
        return Step("archived", finding.path, finding.reason)
    where = f"; what was there is kept as {kept}" if kept else ""
    return Step("replaced", finding.path, finding.reason + where)


def _remove_temporaries(root: Path, *, dry_run: bool) -> Iterator[Step]:
    """Remove what killed writers left: parts of what the database holds whole."""
    for path in reader.temporaries(root):
        try:
            if time.time() - path.stat().st_mtime < _WRITING_SECONDS:
                continue
            if not dry_run:
                path.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            yield Step("undecided", path, f"left by a writer that was killed; {error.strerror}")
        else:
            yield Step("removed", path, "left by a writer that was killed")


def _clear_directories(registry: Registry, *, dry_run: bool) -> Iterator[Step]:
    """Remove empty directories of runs: other readers of the archive trip over them."""
    for _, directory, reason in checking.check_directories(registry.archive_root):
        if dry_run and _is_finished(registry, directory):
            continue
        try:
            is_empty = not any(directory.iterdir())
            if is_empty and not dry_run:
                directory.rmdir()
        except FileNotFoundError:
            continue
        except OSError as error:
            yield Step("undecided", directory, f"{reason}; {error.strerror}")
        else:
            files = Step("undecided", directory, f"{reason}, but other files")
            yield Step("removed", directory, reason) if is_empty else files


def _is_finished(registry: Registry, directory: Path) -> bool:
    """Tell whether a run without meta.json has been stopped, so that it would get one."""
    key = layout.parse(directory.relative_to(registry.archive_root).parts)
    with registry.database.statement() as conn:
        known = jobs.known_runs(conn, [key]) if key else {}
    return any(not run.is_running for run in known.values())
