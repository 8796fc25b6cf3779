"""Export the archive for analysts."""

from collections.abc import Callable, Iterator
from pathlib import Path

from ccapi.archive import pack, parquet, reader
from ccapi.context import Context
from ccapi.errors import ArchiveError
from ccapi.model.job import Job


def export_parquet(
    context: Context, path: Path, cluster: str | None, report: Callable[[str], object]
) -> int:
    """Write all archived jobs, or those of a cluster, to a Parquet file; return how many.

    Jobs that the database has pruned are among them. A file that cannot be read is reported and
    left out. Raises StartupError without pyarrow, and ArchiveError.
    """
    with pack.kept_open():
        return parquet.write(path, _archived_jobs(context.archive_root, cluster, report))


def _archived_jobs(
    root: Path, cluster: str | None, report: Callable[[str], object]
) -> Iterator[Job]:
    for key in reader.keys(root):
        if cluster not in {None, key.cluster}:
            continue
        try:
            # A bad metric costs the metric only.
            yield reader.read(root, key, [])
        except ArchiveError as error:
            report(f"{key.cluster}, jobId {key.job_id}, startTime {key.start_time}: {error}")
