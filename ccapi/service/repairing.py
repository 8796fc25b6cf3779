"""Database and archive are brought into agreement, and nothing is lost on the way."""

from collections.abc import Iterator
from pathlib import Path

from ccapi.archive import layout, reader, writer
from ccapi.errors import ArchiveError, DatabaseUnavailable
from ccapi.model.job import Job
from ccapi.repository import jobs
from ccapi.service import archiving, checking, importing
from ccapi.service.registry import Registry
from ccapi.service.steps import Step

_BATCH = 500


def repair(registry: Registry, tree: Path | None = None, *, dry_run: bool = False) -> Iterator[Step]:
    """Make archive and database agree, and yield what was done and what was left.

    For a job that it holds, the database is right. `tree` is the archive whose jobs it is
    to take in: our own for its orphans, or another one. Safe while the service runs and
    at any moment to interrupt. Raises ArchiveError when there is no archive to write to.
    """
    writer.require(registry.archive_root)
    yield from _archive_waiting(registry, dry_run=dry_run)
    yield from _rewrite_spoilt(registry, dry_run=dry_run)
    yield from _clear_directories(registry, dry_run=dry_run)
    if tree is not None:
        yield from importing.import_tree(registry, tree, dry_run=dry_run)
    if tree is None or not importing.is_own(registry, tree):
        for finding in checking.check_files(registry):
            kind = "orphaned" if finding.kind == "orphaned" else "undecided"
            yield Step(kind, finding.path, finding.reason)


def _archive_waiting(registry: Registry, *, dry_run: bool) -> Iterator[Step]:
    ...
