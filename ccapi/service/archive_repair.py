"""Make database and archive agree, without losing anything."""

import time
from collections.abc import Iterator
from pathlib import Path

from ccapi.archive import layout, reader, writer
from ccapi.context import Context
from ccapi.errors import ArchiveError, DatabaseUnavailable
from ccapi.model.job import Job
from ccapi.repository import jobs
from ccapi.service import archive, archive_check, archive_import
from ccapi.service.archive_import import RepairAction

# A writer that has been busy with a file for longer is dead.
_MAX_WRITE_SECONDS = 3600


def repair(
    context: Context,
    tree: Path | None = None,
    *,
    with_pruned: bool = False,
    dry_run: bool = False,
) -> Iterator[RepairAction]:
    """Make archive and database agree; yield what was repaired, and what was not.

    For jobs in the database, the database is right. `tree` is an archive to import: our own
    for its orphans, or another; `with_pruned` imports pruned jobs, too. Safe while the service
    runs, and at any interruption. Raises ArchiveError when the archive does not exist.
    """
    root = context.archive_root
    writer.require_mounted(root, context.archive_version)
    yield from _archive_pending(context, dry_run=dry_run)
    for batch in archive_check.finished_jobs(context):
        for job in batch:
            if job.is_archived and archive_check.compare(root, job):
                yield from _rewrite(context, job, dry_run=dry_run)
    if tree is not None:
        yield from archive_import.import_tree(
            context, tree, with_pruned=with_pruned, dry_run=dry_run
        )
    yield from _remove_temporaries(root, dry_run=dry_run)
    yield from _remove_empty_directories(context, dry_run=dry_run)
    if tree is None or not archive_import.is_own(context, tree):
        for kind, path, reason in archive_check.check_files(context):
            yield RepairAction("orphaned" if kind == "orphaned" else "undecided", path, reason)
    for _, path, reason in archive_check.check_pruned(context):
        yield RepairAction("undecided", path, f"{reason}; see `ccapi archive discard-pruned`")


def _archive_pending(context: Context, *, dry_run: bool) -> Iterator[RepairAction]:
    """Archive as a retry does; the log says why a job cannot be archived."""
    if not dry_run:
        for job in archive.retry(context):
            yield RepairAction("archived" if job.is_archived else "failed")
        return
    for batch in archive_check.finished_jobs(context):
        yield from (RepairAction("archived") for job in batch if not job.is_archived)


def _rewrite(context: Context, suspect: Job, *, dry_run: bool) -> Iterator[RepairAction]:
    """Archive a job again from the database, under its lock."""
    root = context.archive_root
    try:
        with context.database.transaction() as conn:
            assert suspect.id is not None
            job = jobs.get(conn, suspect.id) if jobs.lock(conn, suspect.id) else None
            finding = archive_check.compare(root, job) if job and job.is_archived else None
            backup = (
                writer.write_with_backup(root, job) if job and finding and not dry_run else None
            )
    except (ArchiveError, DatabaseUnavailable) as error:
        yield RepairAction("failed", layout.meta_path(root, suspect.key), str(error))
        return
    if finding:
        kind = "archived" if finding.kind == "missing" else "replaced"
        note = f"; kept the former file as {backup}" if backup else ""
        yield RepairAction(kind, finding.path, finding.reason + note)


def _remove_temporaries(root: Path, *, dry_run: bool) -> Iterator[RepairAction]:
    """Remove files of killed writers: the database has all of their content."""
    for path in reader.temporary_files(root):
        try:
            if time.time() - path.stat().st_mtime < _MAX_WRITE_SECONDS:
                continue
            if not dry_run:
                path.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            yield RepairAction("undecided", path, f"left by a killed writer; {error.strerror}")
        else:
            yield RepairAction("removed", path, "left by a killed writer")


def _remove_empty_directories(context: Context, *, dry_run: bool) -> Iterator[RepairAction]:
    """Remove empty directories of runs: other readers of the archive fail on them."""
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
            if is_empty:
                yield RepairAction("removed", directory, reason)
            else:
                yield RepairAction("undecided", directory, f"{reason}, but other files")


def _is_finished(context: Context, directory: Path) -> bool:
    """Return whether a run without meta.json has stopped, so that it would get one."""
    key = layout.parse(directory.relative_to(context.archive_root).parts)
    with context.database.connection() as conn:
        runs = jobs.find_by_keys(conn, [key]) if key else {}
    return any(not run.is_running for run in runs.values())
