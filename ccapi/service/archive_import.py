"""Import archived jobs into the database: orphans of our archive, or another archive's jobs."""

from collections.abc import Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ccapi.archive import layout, reader, validation, writer
from ccapi.context import Context
from ccapi.errors import ArchiveError
from ccapi.model.job import Job, JobKey
from ccapi.repository import bulk_insert, jobs, pruned_jobs
from ccapi.service import archive_check

DONE = ("archived", "replaced", "removed", "imported", "already there", "pruned")
NOT_DONE = ("failed", "bad", "orphaned", "undecided")
# Jobs per transaction, all in memory at once. Several threads write their files, because each
# one waits for the disk nearly all of the time.
_BATCH_SIZE = 250
_WRITERS = 8


class RepairAction(NamedTuple):
    """One thing that a repair or import did or did not do; `kind` is in DONE or NOT_DONE.

    `path` and `reason` are set if the operator should look at it.
    """

    kind: str
    path: Path | None = None
    reason: str = ""


def is_own(context: Context, tree: Path) -> bool:
    """Return whether a tree is the registry's archive, by whatever path."""
    root = context.archive_root
    return root.exists() and tree.samefile(root)


def count_runs(tree: Path) -> int:
    """Count the runs that `import_tree` visits, without opening their files."""
    return sum(1 for _ in reader.runs(tree))


def import_tree(
    context: Context, tree: Path, *, with_pruned: bool = False, dry_run: bool = False
) -> Iterator[RepairAction]:
    """Register every job of an archive that is not in the database; yield an action for each.

    Jobs of another tree are also written to our archive, with their measured data, before their
    batch is committed. Metrics that the API would refuse are left out, and so are jobs that were
    pruned from the database, unless `with_pruned`. After an interruption at any moment, the next
    run completes the import.
    """
    for path, problem in archive_check.pack_problems(tree):
        yield RepairAction("bad", path, problem)
    runs = reader.runs(tree)
    if is_own(context, tree):  # a repair handles runs without meta.json there
        runs = ((path, key) for path, key in runs if not reader.is_incomplete(path))
    imported = 0
    while batch := list(islice(runs, _BATCH_SIZE)):
        actions = list(
            _import_batch(context, tree, batch, with_pruned=with_pruned, dry_run=dry_run)
        )
        imported += sum(action.kind == "imported" for action in actions)
        yield from actions
    if imported and not dry_run:
        with context.database.session() as conn:
            bulk_insert.analyze(conn)


def _import_batch(
    context: Context,
    tree: Path,
    batch: Sequence[tuple[Path, JobKey | None]],
    *,
    with_pruned: bool,
    dry_run: bool,
) -> Iterator[RepairAction]:
    keys = [key for _, key in batch if key is not None]
    with context.database.connection() as conn:
        known = jobs.find_by_keys(conn, keys)
        pruned = set() if with_pruned else pruned_jobs.find(conn, keys)
    new: dict[JobKey, tuple[Job, str]] = {}
    for directory, key in batch:
        if key is None:
            yield RepairAction("bad", directory, "the path does not name a run of a job")
        elif key in known and known[key].is_running:
            reason = archive_check.still_running(known[key])
            yield RepairAction("undecided", layout.meta_path(tree, key), reason)
        elif key in known or key in pruned:
            yield RepairAction("already there" if key in known else "pruned")
        else:
            try:
                new[key] = _read(tree, key)
            except reader.MissingMetaJson:
                yield RepairAction("bad", directory, archive_check.NO_META_JSON)
            except ArchiveError as error:
                yield RepairAction("bad", layout.meta_path(tree, key), str(error))
    if new:
        yield from _insert(context, tree, new, dry_run=dry_run)


def _read(tree: Path, key: JobKey) -> tuple[Job, str]:
    """Return a valid job with a note of the metrics that were left out; raises ArchiveError."""
    bad_metrics: list[str] = []
    job = reader.read(tree, key, bad_metrics)
    validation.validate(job)
    names = ", ".join(map(repr, bad_metrics))
    return job, f"without the bad metrics {names}" if names else ""


def _insert(
    context: Context, tree: Path, new: Mapping[JobKey, tuple[Job, str]], *, dry_run: bool
) -> Iterator[RepairAction]:
    """Insert jobs, given with a note of what they miss, and write them to our archive."""
    added: Set[JobKey] = new.keys()
    replaced: list[RepairAction] = []
    root = context.archive_root
    if not dry_run:
        with (
            writer.exclusive(root, is_import=True),
            context.database.transaction() as conn,
            ThreadPoolExecutor(_WRITERS) as pool,
        ):
            added = bulk_insert.import_finished(conn, [job for job, _ in new.values()])
            pruned_jobs.discard(conn, added)
            own = is_own(context, tree)
            # The file of an orphan is right, unless a metric was left out.
            written = [job for job, note in new.values() if job.key in added and (note or not own)]
            replaced += filter(None, pool.map(lambda job: _archive(root, tree, job), written))
    for key, (_, note) in new.items():
        kind = "imported" if key in added else "already there"
        yield RepairAction(kind, layout.meta_path(tree, key) if note else None, note)
    yield from replaced


def _archive(root: Path, tree: Path, job: Job) -> RepairAction | None:
    """Write a job of another tree to our archive; return an action if a file was replaced."""
    backup = writer.write_with_backup(root, job)
    writer.copy_data(root, job.key, layout.meta_path(tree, job.key).parent)
    if backup is None:
        return None
    path = layout.meta_path(root, job.key)
    return RepairAction("replaced", path, f"kept the former file as {backup}")
