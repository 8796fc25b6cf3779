"""The paths of a job's files; this module does not access them."""

import re
from datetime import UTC, datetime
from pathlib import Path

from ccapi.errors import ArchiveError
from ccapi.model.job import JobKey
from ccapi.model.rules import MAX_EPOCH_SECOND, MAX_INTEGER, is_name

# Version 3 is what today's cc-backend reads, and 1 what it read once.
VERSIONS = (1, 3)
DEFAULT_VERSION = 3
VERSION_FILE = "version.txt"
CLUSTER_FILE = "cluster.json"
META_FILE = "meta.json"
LEVELS = ("cluster", "jobId div 1000", "jobId mod 1000", "startTime")
_GROUP = 1000
# A pack of a month's jobs, in the directory of their cluster.
PACK_PATTERN = "[0-9][0-9][0-9][0-9]-[0-9][0-9].sqlite"
# Measured data of another program; an import copies it.
DATA_FILES = ("data.json.gz", "data.json")
# A file that the writer has not completed: .meta.json.<process id>.<random>
_TEMPORARY = re.compile(
    rf"\.(?:{'|'.join(map(re.escape, (META_FILE, *DATA_FILES)))})\.[0-9]+\.[0-9a-f]{{8}}"
)


def parts(key: JobKey) -> tuple[str, str, str, str]:
    """Return the names of the directories that lead to a run, from the root down.

    Raises ArchiveError for a cluster whose name would lead out of the archive.
    """
    if not is_name(key.cluster):
        raise ArchiveError(f"{key.cluster!r} is not a valid name of a cluster")
    group, number = divmod(key.job_id, _GROUP)
    return key.cluster, str(group), f"{number:03d}", str(key.start_time)


def meta_path(root: Path, key: JobKey) -> Path:
    """Return the path of a run's meta.json."""
    return root.joinpath(*parts(key), META_FILE)


def month_of(start_time: int) -> str | None:
    """Return the month of a start in UTC, such as 2025-07; None after the year 9999."""
    if start_time > MAX_EPOCH_SECOND:
        return None
    return f"{datetime.fromtimestamp(start_time, UTC):%Y-%m}"


def pack_path(root: Path, key: JobKey) -> Path | None:
    """Return the path of the pack that has a run, if it is packed; None if it cannot be."""
    month = month_of(key.start_time)
    return root / parts(key)[0] / f"{month}.sqlite" if month else None


def is_temporary(name: str) -> bool:
    """Return whether a file in a run's directory is one that its writer has not completed."""
    return _TEMPORARY.fullmatch(name) is not None


def parse(directories: tuple[str, ...]) -> JobKey | None:
    """Return the run that these directories, from the root down, lead to; None if there is none."""
    if len(directories) != len(LEVELS):
        return None
    cluster, group, number, start_time = directories
    max_digits = len(str(MAX_INTEGER))
    for name in (group, number, start_time):
        if not (name.isascii() and name.isdigit() and len(name) <= max_digits):
            return None
    key = JobKey(cluster, int(group) * _GROUP + int(number), int(start_time))
    in_range = 1 <= key.job_id <= MAX_INTEGER and 1 <= key.start_time <= MAX_INTEGER
    return key if is_name(cluster) and in_range and parts(key) == directories else None
