"""`python -m bench.packs`: disk space and speed of packed jobs, each figure with its limit."""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ccapi.archive import layout, reader, writer
from ccapi.cli import sample_data
from ccapi.context import Context
from ccapi.db import migrations
from ccapi.db.pool import Database
from ccapi.embedded.server import private_postgres
from ccapi.model.cluster import Clusters
from ccapi.model.job import JobKey
from ccapi.repository import bulk_insert, jobs
from ccapi.service import archive_check, archive_packs, archived_job, deletion

_MAX_BYTES = 1600
_MAX_READ_MS = 20
_READS = 2000
# So many jobs are in the tree at a time.
_BATCH = 5000


def main() -> None:
    """Pack sample jobs, and print what that costs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--directory", help="Where to work; a temporary directory by default.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        directory = Path(name)
        directory.chmod(0o755)
        with private_postgres(directory / "postgresql", durable=False) as server:
            database = Database(server.url)
            migrations.migrate(database)
            _measure(Context(database, directory / "archive", Clusters(), 60), options.jobs)
            database.close()


def _measure(context: Context, number: int) -> None:
    root = context.archive_root
    writer.create_if_missing(root)
    end = int(time.time())
    data_bytes = sum(_fill(context, number, end))
    packed = list(reader.keys(root))
    paths = list(reader.pack_paths(root))
    disk_bytes = sum(path.stat().st_blocks * 512 for path in paths)
    months = {(key.cluster, layout.month_of(key.start_time)) for key in packed}
    files = sum(path.is_file() for path in root.rglob("*"))
    print(f"{len(packed):,} jobs in {len(paths)} packs, {files} files in all")
    assert len(paths) == len(months)
    size = disk_bytes / len(packed)
    print(
        f"bytes per job {size:,.0f} (limit {_MAX_BYTES}), {data_bytes / number:,.0f} of them data"
    )
    milliseconds = sorted(_read(context, packed))
    median, slow = statistics.median(milliseconds), milliseconds[len(milliseconds) * 99 // 100]
    print(f"reading a job: median {median:.2f} ms, 99 % within {slow:.2f} (limit {_MAX_READ_MS})")
    pruned = sum(deletion.prune(context, sorted(key.start_time for key in packed)[number // 2]))
    print(f"pruned {pruned:,} of them from the database")
    begin = time.monotonic()
    findings = sum(1 for _ in archive_check.check(context))
    seconds = time.monotonic() - begin
    print(f"archive check: {seconds:.0f} s, {seconds / number * 1e6:,.0f} s per million jobs")
    assert findings == 0
    assert size <= _MAX_BYTES
    assert slow <= _MAX_READ_MS


def _fill(context: Context, number: int, end: int) -> Iterator[int]:
    """Archive and pack sample jobs, and yield the bytes of each meta.json."""
    finished = [job for job in sample_data.jobs(number, now=end) if job.stop_time is not None]
    for first in range(0, len(finished), _BATCH):
        batch = finished[first : first + _BATCH]
        for job in batch:
            job.monitoring_status = 3
            # A registry has no metrics; so a job has 1.2 kB.
            job.statistics = None
            (job.meta_data or {}).pop("slurmInfo", None)
        with context.database.transaction() as conn:
            ids = bulk_insert.load(conn, batch)
        with context.database.connection() as conn:
            for archived in jobs.list_finished(conn, ids[0] - 1, len(ids)):
                writer.write(context.archive_root, archived)
        for path in context.archive_root.rglob(layout.META_FILE):
            yield path.stat().st_size
        # Months that have not ended would stay.
        for move in archive_packs.pack_months(context, end + 62 * 86_400):
            assert move.kind == "packed", move


def _read(context: Context, keys: list[JobKey]) -> Iterator[float]:
    """Read random jobs as GET /archive does, and yield the milliseconds of each."""
    for key in random.choices(keys, k=_READS):  # noqa: S311 - not for secrets
        begin = time.perf_counter()
        archived_job.read(context, key)
        yield (time.perf_counter() - begin) * 1000


if __name__ == "__main__":
    main()
