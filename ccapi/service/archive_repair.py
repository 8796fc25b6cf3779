"""Database and archive are brought into agreement, and nothing is lost on the way."""

import time
from collections.abc import Iterator
from pathlib import Path

from ccapi.archive import layout, reader, writer
from ccapi.errors import ArchiveError, DatabaseUnavailable
from ccapi.model.job import Job
from ccapi.repository import jobs
from ccapi.service import archive, archive_check, archive_import
from ccapi.service.archive_check import Finding
from ccapi.context import Context
from ccapi.service.archive_check import RepairAction

# A writer that is at a file for longer is dead.
_WRITING_SECONDS = 3600


def repair(
    context: Context, tree: Path | None = None, *, dry_run: bool = False
) -> Iterator[RepairAction]:
    """Make archive and database agree; yield what was done, and what was left as it is.

    For a job that it holds, the database is right. `tree` is an archive whose jobs it is
    to take in: our own one for its orphans, or another. Safe while the service runs, and
    to be interrupted at any moment. Raises ArchiveError when the archive is not there.
    """
    root = context.archive_root
    writer.find(root)
    yield from _archive_waiting(context, dry_run=dry_run)
    yield from _rewrite_spoilt(context, dry_run=dry_run)
    if tree is not None:
        yield from archive_import.import_tree(context, tree, dry_run=dry_run)
    yield from _remove_temporaries(root, dry_run=dry_run)
    yield from _clear_directories(context, dry_run=dry_run)
    if tree is None or not archive_import.is_own(context, tree):
        for kind, path, reason in archive_check.check_files(context):
            yield RepairAction("orphaned" if kind == "orphaned" else "undecided", path, reason)


def _archive_waiting(context: Context, *, dry_run: bool) -> Iterator[RepairAction]:
    """Do what a retry does; the log says why a job cannot be archived."""
    if not dry_run:
        for job in archive.retry(context):
            yield RepairAction("archived" if job.is_archived else "failed")
        return
    for batch in archive_check.finished_jobs(context):
        yield from (RepairAction("archived") for job in batch if not job.is_archived)


def _rewrite_spoilt(context: Context, *, dry_run: bool) -> Iterator[RepairAction]:
    for batch in archive_check.finished_jobs(context):
        for job in batch:
            if job.is_archived and archive_check.compare(context.archive_root, job):
                yield from _rewrite(context, job, dry_run=dry_run)


def _rewrite(context: Context, suspect: Job, *, dry_run: bool) -> Iterator[RepairAction]:
    """Archive a job again from the database, its row held as when it was archived first."""
    root = context.archive_root
    try:
        with context.database.transaction() as conn:
            assert suspect.id is not None
            job = jobs.get(conn, suspect.id) if jobs.lock(conn, suspect.id) else None
            finding = archive_check.compare(root, job) if job and job.is_archived else None
            kept = writer.replace(root, job) if job and finding and not dry_run else None
    except (ArchiveError, DatabaseUnavailable) as error:
        yield RepairAction("failed", layout.meta_path(root, layout.key_of(suspect)), str(error))
        return
    if finding:
        yield _rewritten(finding, kept)


def _rewritten(finding: Finding, kept: str | None) -> RepairAction:
    if finding.kind == "missing":
        return RepairAction("archived", finding.path, finding.reason)
    where = f"; what was there is kept as {kept}" if kept else ""
    return RepairAction("replaced", finding.path, finding.reason + where)


def _remove_temporaries(root: Path, *, dry_run: bool) -> Iterator[RepairAction]:
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
            yield RepairAction("undecided", path, f"left by a writer that was killed; {error.strerror}")
        else:
            yield RepairAction("removed", path, "left by a writer that was killed")


def _clear_directories(context: Context, *, dry_run: bool) -> Iterator[RepairAction]:
    """Remove empty directories of runs: other readers of the archive trip over them."""
    for _, directory, reason in archive_check.check_directories(context.archive_root):
        if dry_run and _is_finished(context, directory):
            continue
        try:
            is_empty = not any(directory.iterdir())
            if is_empty and not dry_run:
                directory.rmdir()
        except FileNotFoundError:
            continue
        except OSError as error:
            yield RepairAction("undecided", directory, f"{reason}; {error.strerror}")
        else:
            files = RepairAction("undecided", directory, f"{reason}, but other files")
            yield RepairAction("removed", directory, reason) if is_empty else files


def _is_finished(context: Context, directory: Path) -> bool:
    """Tell whether a run without meta.json has been stopped, so that it would get one."""
    key = layout.parse(directory.relative_to(context.archive_root).parts)
    with context.database.statement() as conn:
        known = jobs.find_by_keys(conn, [key]) if key else {}
    return any(not run.is_running for run in known.values())
