"""Archived jobs enter the database: orphans of our archive, or another archive's jobs."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from ccapi.archive import validation, layout, reader, writer
from ccapi.errors import ArchiveError
from ccapi.model.job import Job, JobKey
from ccapi.repository import bulk_insert, jobs
from ccapi.service import archive_check
from ccapi.context import Context
from ccapi.service.archive_check import RepairAction

# Jobs per transaction, all of them in memory at once. Files are written several at a time:
# each waits for the disk, for nearly all of its time.
_BATCH = 250
_WRITERS = 8


def is_own(context: Context, tree: Path) -> bool:
    """Tell whether a tree is the registry's archive, by whatever name."""
    root = context.archive_root
    return root.exists() and tree.samefile(root)


def count_runs(tree: Path) -> int:
    """Count what `import_tree` goes through, without opening it."""
    return sum(1 for _ in reader.runs(tree))


def import_tree(context: Context, tree: Path, *, dry_run: bool) -> Iterator[RepairAction]:
    """Register every job of an archive that the database does not hold; a step for each.

    The jobs of another tree are written to our archive, too, before their batch is
    committed. Killed at any moment and started again it goes on, and ends with the same.
    """
    runs = reader.runs(tree)
    if is_own(context, tree):  # a repair sees to what has no meta.json there
        runs = ((path, key) for path, key in runs if not reader.is_incomplete(path))
    total = 0
    while batch := list(islice(runs, _BATCH)):
        steps = list(_import_batch(context, tree, batch, dry_run=dry_run))
        total += sum(step.kind == "imported" for step in steps)
        yield from steps
    if total and not dry_run:
        with context.database.session() as conn:
            bulk_insert.analyze(conn)


def _import_batch(
    context: Context, tree: Path, batch: Sequence[tuple[Path, JobKey | None]], *, dry_run: bool
) -> Iterator[RepairAction]:
    named = {key: directory for directory, key in batch if key is not None}
    with context.database.statement() as conn:
        known = jobs.find_by_keys(conn, list(named))
    found: list[Job] = []
    for directory, key in batch:
        if key is None:
            yield RepairAction("bad", directory, "is named after no run of a job")
        elif key in known:
            yield _left_alone(tree, known[key])
        else:
            try:
                found.append(_read(tree, key))
            except reader.MissingMetaJson:
                yield RepairAction("bad", directory, archive_check.NO_META_JSON)
            except ArchiveError as error:
                yield RepairAction("bad", layout.meta_path(tree, key), str(error))
    if found:
        yield from _adopt(context, tree, found, dry_run=dry_run)


def _left_alone(tree: Path, run: jobs.RunRef) -> RepairAction:
    if not run.is_running:
        return RepairAction("already there")
    path = layout.meta_path(tree, JobKey(run.cluster, run.job_id, run.start_time))
    return RepairAction("undecided", path, archive_check.still_runs(run))


def _read(tree: Path, key: JobKey) -> Job:
    job = reader.read(tree, key)
    validation.admit(job)
    return job


def _adopt(
    context: Context, tree: Path, found: Sequence[Job], *, dry_run: bool
) -> Iterator[RepairAction]:
    if dry_run:
        yield from (RepairAction("imported") for _ in found)
        return
    kept: list[RepairAction] = []
    with context.database.transaction() as conn:
        added = bulk_insert.import_finished(conn, found)
        if not is_own(context, tree):
            new = [job for job in found if layout.key_of(job) in added]
            kept = _write_all(context.archive_root, new)
    for job in found:
        yield RepairAction("imported" if layout.key_of(job) in added else "already there")
    yield from kept


def _write_all(root: Path, new: Sequence[Job]) -> list[RepairAction]:
    """Write jobs to our archive; raises ArchiveError when one cannot be."""
    with ThreadPoolExecutor(_WRITERS) as pool:
        shares = [new[number::_WRITERS] for number in range(_WRITERS)]
        written = pool.map(lambda share: [_write(root, job) for job in share], shares)
        return [step for steps in written for step in steps if step is not None]


def _write(root: Path, job: Job) -> RepairAction | None:
    """Write a job to our archive; a step when another content had to give way."""
    kept = writer.replace(root, job)
    path = layout.meta_path(root, layout.key_of(job))
    return RepairAction("replaced", path, f"what was there is kept as {kept}") if kept else None
