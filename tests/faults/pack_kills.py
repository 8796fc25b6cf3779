"""Kill packing and unpacking at random moments, and count what is lost or doubled.

`python -m tests.faults.pack_kills` makes an archive of its own and prints what it found.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

from ccapi.archive import reader, writer
from ccapi.context import Context
from ccapi.db import migrations
from ccapi.db.pool import Database
from ccapi.embedded.server import private_postgres
from ccapi.model.cluster import Clusters
from ccapi.model.job import JobKey
from ccapi.repository import bulk_insert
from ccapi.service import archive_packs
from tests.archive.fixtures import make_job

_FIRST_START = 1_748_736_000
_MONTH = 31 * 86_400
_BEFORE = _FIRST_START + 12 * _MONTH
_ROOT = Path(__file__).resolve().parents[2]
_SHARED_MEMORY = Path("/dev/shm")
_MAX_SECONDS = 0.4

Documents = dict[JobKey, bytes]


def fill(context: Context, jobs: int) -> Documents:
    """Archive jobs of two clusters and three months, and return their meta.json files."""
    writer.create_if_missing(context.archive_root)
    made = []
    for number in range(jobs):
        start = _FIRST_START + number % 3 * _MONTH + number
        script = f'{{"jobScript":"{"x" * (number % 5 * 500)}"}}'
        cluster = ("fritz", "alex")[number % 2]
        job = make_job(job_id=number + 1, cluster=cluster, start_time=start, stop_time=start + 9)
        made.append(replace(job, meta_data=script))
    with context.database.transaction() as conn:
        bulk_insert.import_finished(conn, made)
    for job in made:
        writer.write(context.archive_root, job)
    return {job.key: reader.read_bytes(context.archive_root, job.key) for job in made}


def kill(context: Context, url: str, documents: Documents, kills: int) -> Counter[str]:
    """Kill a process that packs and unpacks, and return how often which fault was found.

    After each kill all jobs are compared, before and after another run completes the work.
    """
    faults: Counter[str] = Counter()
    root = str(context.archive_root)
    for number in range(kills):
        with subprocess.Popen(
            [sys.executable, "-m", "tests.faults.pack_kills", "--child", url, root],
            stdout=subprocess.PIPE,
            cwd=_ROOT,
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            time.sleep(random.uniform(0, _MAX_SECONDS))
            child.kill()
        faults += _compare(context, documents)
        in_tree = sum(reader.is_in_tree(context.archive_root, key) for key in documents)
        faults["killed in the middle of a move"] += 0 < in_tree < len(documents)
        if number % 2:
            moves = archive_packs.pack_months(context, _BEFORE)
        else:
            moves = archive_packs.unpack(context)
        faults["bad"] += sum(move.kind == "bad" for move in moves)
        faults += _compare(context, documents)
        left = list(context.archive_root.rglob("meta.json" if number % 2 else "*.sqlite*"))
        faults["left over"] += len(left) + len(list(reader.incomplete_directories(Path(root))))
    return +faults


def _compare(context: Context, documents: Documents) -> Counter[str]:
    """Compare the archive with what was written to it."""
    listed = Counter(reader.keys(context.archive_root))
    faults: Counter[str] = Counter(doubled=sum(number > 1 for number in listed.values()))
    for key, data in documents.items():
        try:
            faults["wrong"] += reader.read_bytes(context.archive_root, key) != data
        except reader.MissingMetaJson:
            faults["lost"] += 1
        faults["not listed"] += key not in listed
    return faults


def _move_for_ever(context: Context) -> None:
    print("ready", flush=True)
    while True:
        for _ in archive_packs.pack_months(context, _BEFORE):
            pass
        for _ in archive_packs.unpack(context):
            pass


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=600)
    parser.add_argument("--child", nargs=2, metavar=("URL", "ROOT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        url, root = arguments.child
        _move_for_ever(Context(Database(url), Path(root), Clusters(), 60))
    parent = _SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(dir=parent) as name:
        directory = Path(name)
        directory.chmod(0o755)
        with private_postgres(directory / "postgresql", durable=False) as server:
            database = Database(server.url)
            migrations.migrate(database)
            context = Context(database, directory / "archive", Clusters(), 60)
            faults = kill(context, server.url, fill(context, arguments.jobs), arguments.kills)
            database.close()
    middle = faults.pop("killed in the middle of a move", 0)
    counts = ", ".join(f"{number} {fault}" for fault, number in faults.items()) or "nothing"
    print(f"{arguments.kills} kills, {middle} in the middle of a move; lost or doubled: {counts}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
