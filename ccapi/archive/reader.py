"""Reading the archive: the writer's inverse."""

import os
from collections.abc import Iterator
from pathlib import Path

from ccapi.archive import document, layout
from ccapi.errors import ArchiveError
from ccapi.model.job import Job, JobKey


class MissingDocument(ArchiveError):
    """The archive has no meta.json for the job."""


def read(root: Path, key: JobKey) -> Job:
    """Read an archived job; raises MissingDocument, or ArchiveError for one that is broken."""
    job = document.decode(read_bytes(root, key))
    if layout.key_of(job) != key:
        raise ArchiveError("belongs to another job")
    return job


def read_bytes(root: Path, key: JobKey) -> bytes:
    """Return a job's meta.json as it is; raises MissingDocument, ArchiveError."""
    path = layout.meta_path(root, key)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise MissingDocument(f"{path} does not exist") from None
    except OSError as error:
        raise ArchiveError(f"cannot read {path}: {error.strerror}") from error


def keys(root: Path) -> Iterator[JobKey]:
    """Name every archived job, directory by directory in order, in constant memory."""
    for directory, key in runs(root):
        if key is not None and (directory / layout.META_FILE).is_file():
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
    return directory.is_dir() and not (directory / layout.META_FILE).is_file()


def _run_directories(root: Path) -> Iterator[Path]:
    level = iter((root,))
    for _ in layout.LEVELS:
        level = _below(level)
    return level


def _below(directories: Iterator[Path]) -> Iterator[Path]:
    for directory in directories:
        try:
            with os.scandir(directory) as entries:
                names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ArchiveError(f"cannot read {directory}: {error.strerror}") from error
        for name in sorted(names, key=lambda name: (len(name), name)):
            yield directory / name
