"""`python -m bench.archive_check`: time and memory of `ccapi archive check`, and ten faults.

All jobs are packed, and the older half of them is pruned from the database.
"""

import argparse
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ccapi.archive import layout, meta_json, pack, reader, writer
from ccapi.cli import sample_data
from ccapi.context import Context
from ccapi.db import migrations
from ccapi.db.pool import Database
from ccapi.embedded.server import private_postgres
from ccapi.model.cluster import Clusters
from ccapi.model.job import JobKey
from ccapi.repository import bulk_insert, jobs
from ccapi.service import deletion

_MAX_SECONDS_PER_MILLION = 180
_MAX_MEGABYTES = 200
_MEGABYTE = 1 << 20
_BATCH = 5000
_CLUSTERS = ("fritz", "alex")
_COMMAND = "from ccapi.cli import main; main()"


class Outcome(NamedTuple):
    """What `ccapi archive check` printed and used."""

    status: int
    findings: list[tuple[str, str]]
    seconds: float
    megabytes: float


def main() -> None:
    """Build an archive, unless the directory has one, and print the figures with their limits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--directory", type=Path, default=Path("var/bench/archive-check"))
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    options.directory.chmod(0o755)
    with private_postgres(options.directory / "postgresql", durable=False) as server:
        context = Context(Database(server.url), options.directory / "archive", Clusters(), 60)
        if not context.archive_root.exists():
            build(context, options.jobs)
        number = sum(1 for _ in reader.packed_keys(context.archive_root))
        clean = check(server.url, context.archive_root)
        limit = _MAX_SECONDS_PER_MILLION * number / 1e6
        print(
            f"{number:,} packed jobs, half of them pruned: {clean.seconds:.0f} s "
            f"(limit {limit:.0f}), {clean.megabytes:.0f} MB (limit {_MAX_MEGABYTES})"
        )
        assert (clean.status, clean.findings) == (0, [])
        faults = plant_faults(context)
        spoilt = check(server.url, context.archive_root)
        print(f"{len(faults)} faults planted, {len(spoilt.findings)} reported")
        assert spoilt.status == 1
        assert sorted(spoilt.findings) == sorted(faults)
        assert clean.seconds <= limit
        assert max(clean.megabytes, spoilt.megabytes) <= _MAX_MEGABYTES


def build(context: Context, number: int) -> None:
    """Register and pack finished jobs, and prune the older half."""
    migrations.migrate(context.database)
    writer.create_if_missing(context.archive_root)
    end = int(time.time())
    samples = (job for job in sample_data.jobs(number, now=end) if job.stop_time is not None)
    starts: list[int] = []
    while batch := list(islice(samples, _BATCH)):
        for count, job in enumerate(batch):
            job.cluster = _CLUSTERS[count % len(_CLUSTERS)]
            job.monitoring_status = 3
            # A registry has no metrics; so a job has 1.2 kB.
            job.statistics = None
            (job.meta_data or {}).pop("slurmInfo", None)
            starts.append(job.start_time)
        with context.database.transaction() as conn:
            ids = bulk_insert.load(conn, batch)
        _pack(context, ids)
    for _ in deletion.prune(context, sorted(starts)[len(starts) // 2]):
        pass
    with context.database.session() as conn:
        bulk_insert.analyze(conn)


def _pack(context: Context, ids: list[int]) -> None:
    """Write jobs into their packs, without a file of their own before."""
    documents: dict[Path, dict[JobKey, bytes]] = {}
    with context.database.connection() as conn:
        archived = jobs.list_finished(conn, ids[0] - 1, len(ids))
    for job in archived:
        path = layout.pack_path(context.archive_root, job.key)
        assert path is not None
        documents.setdefault(path, {})[job.key] = meta_json.encode(job, ("main",))
    for path, group in documents.items():
        path.parent.mkdir(exist_ok=True)
        pack.write(path, group, version=context.archive_version, cluster_file=None)


def check(url: str, root: Path) -> Outcome:
    """Run `ccapi archive check`."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("CCAPI_")
    }
    environment |= {"CCAPI_DATABASE_URL": url, "CCAPI_ARCHIVE_ROOT": str(root)}
    begin = time.monotonic()
    process = subprocess.Popen(  # noqa: S603 - the arguments are ours
        [sys.executable, "-c", _COMMAND, "archive", "check"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout as output:
        lines = output.read().splitlines()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    findings = [
        (kind, path.partition(": ")[0])
        for kind, _, path in (line.partition(" ") for line in lines[:-1])
    ]
    return Outcome(
        process.returncode,
        [(kind, path.strip()) for kind, path in findings],
        time.monotonic() - begin,
        usage.ru_maxrss * 1024 / _MEGABYTE,
    )


def plant_faults(context: Context) -> list[tuple[str, str]]:
    """Spoil ten jobs, each in another way or place; return the findings that this must give."""
    root = context.archive_root
    paths = [*reader.pack_paths(root)]
    # The first and the last month have few jobs.
    first, last = paths[1], paths[-2]
    return [
        _spoil(first, 3, "missing", _remove),
        _spoil(last, 5, "missing", _remove),
        _spoil(first, 10, "broken", lambda data: data[:-7]),
        _spoil(last, 12, "broken", lambda data: data[:-7]),
        _spoil(first, 20, "broken", lambda data: data.replace(b'"startTime":1', b'"startTime":2')),
        _spoil(last, 22, "broken", lambda data: data.replace(b'"user":"', b'"user":"x')),
        _spoil(last, 30, "broken", lambda data: b""),
        _spoil(first, 31, "broken", lambda data: b"[]"),
        _add(first),
        _add(last),
    ]


def _remove(_: bytes) -> None:
    return None


def _spoil(
    path: Path, number: int, kind: str, change: Callable[[bytes], bytes | None]
) -> tuple[str, str]:
    """Change or remove the document of the pack's job with this number."""
    [key] = islice(pack.keys(path), number, number + 1)
    data = pack.read(path, key)
    assert data is not None
    changed = change(data)
    assert changed != data
    if changed is None:
        pack.remove(path, [key])
    else:
        with closing(sqlite3.connect(path)) as conn, conn:
            update = "UPDATE jobs SET meta_json = ? WHERE job_id = ? AND start_time = ?"
            conn.execute(update, (changed, key.job_id, key.start_time))
    return kind, str(layout.meta_path(path.parent.parent, key))


def _add(path: Path) -> tuple[str, str]:
    """Add a job that the database never had."""
    key = next(pack.keys(path))
    data = pack.read(path, key)
    assert data is not None
    other = key._replace(job_id=key.job_id + 10**9)
    new = data.replace(f'"jobId":{key.job_id}'.encode(), f'"jobId":{other.job_id}'.encode())
    pack.write(path, {other: new}, version=3, cluster_file=None)
    return "orphaned", str(layout.meta_path(path.parent.parent, other))


if __name__ == "__main__":
    main()
