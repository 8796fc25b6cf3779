"""Reading the archive: the writer's inverse."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ccapi.archive import layout, meta_json
from ccapi.errors import ArchiveError
from ccapi.model.job import Job, JobKey
from ccapi.model.rules import is_name

_LIST = os.R_OK | os.X_OK


class MissingMetaJson(ArchiveError):
    """The archive has no meta.json for the job."""


def read(root: Path, key: JobKey) -> Job:
    """Read an archived job; raises MissingDocument, or ArchiveError for one that is broken."""
    job = meta_json.decode(read_bytes(root, key))
    if job.key != key:
        raise ArchiveError("belongs to another job")
    return job


def read_bytes(root: Path, key: JobKey) -> bytes:
    """Return a job's meta.json as it is; raises MissingDocument, ArchiveError."""
    path = layout.meta_path(root, key)
    with _reasons(path):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise MissingMetaJson(f"{path} does not exist") from None


def keys(root: Path) -> Iterator[JobKey]:
    """Name every archived job, directory by directory in order, in constant memory."""
    for directory, key in runs(root):
        if key is not None and _holds_document(directory):
            yield key


def runs(root: Path) -> Iterator[tuple[Path, JobKey | None]]:
    """Name every run's directory, with meta.json or not; None where its name is no run's."""
    for directory in _run_directories(root):
        yield directory, layout.parse(directory.parts[-len(layout.LEVELS) :])


def incomplete(root: Path) -> Iterator[Path]:
    """Name the directories of runs that hold no meta.json: other readers trip over them."""
    return filter(is_incomplete, _run_directories(root))


def is_incomplete(directory: Path) -> bool:
    """Tell whether a run's directory is there and holds no meta.json."""
    with _reasons(directory):
        return directory.is_dir() and not _holds_document(directory)


def temporaries(root: Path) -> Iterator[Path]:
    """Name the files that a writer is at, or was at when it was killed."""
    for directory in _run_directories(root):
        names = _names(directory, lambda entry: layout.is_temporary(entry.name))
        yield from (directory / name for name in names)


def _holds_document(directory: Path) -> bool:
    with _reasons(directory):
        return (directory / layout.META_FILE).is_file()


def _run_directories(root: Path) -> Iterator[Path]:
    """Go down to the runs; what is no cluster's and closed to us, as lost+found, is passed over."""
    level: Iterator[Path] = (
        directory
        for directory in _below(iter((root,)))
        if is_name(directory.name) or os.access(directory, _LIST, effective_ids=True)
    )
    for _ in layout.LEVELS[1:]:
        level = _below(level)
    return level


def _below(directories: Iterator[Path]) -> Iterator[Path]:
    for directory in directories:
        names = _names(directory, lambda entry: entry.is_dir(follow_symlinks=False))
        for name in sorted(names, key=lambda name: (len(name), name)):
            yield directory / name


def _names(directory: Path, is_wanted: Callable[[os.DirEntry[str]], bool]) -> list[str]:
    """Name some of what a directory holds; one that is gone holds nothing."""
    with _reasons(directory), suppress(FileNotFoundError), os.scandir(directory) as entries:
        return [entry.name for entry in entries if is_wanted(entry)]
    return []


@contextmanager
def _reasons(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArchiveError(f"cannot read {path}: {error.strerror}") from error
