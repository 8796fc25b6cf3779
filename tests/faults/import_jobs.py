"""Import an archive of another writer, and kill the import again and again.

    python -m tests.faults.import_jobs --jobs 100000

Prints jobs per second and peak memory for a tenth of the jobs and for all, then kills an import
of all at random moments, and lets the last one finish. Then every job must be registered once,
`ccapi archive check` must find nothing, and the archive must be byte for byte that of the import
that nobody killed. Otherwise the exit status is 1.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import psycopg

from ccapi.archive import layout
from ccapi.cli import sample_data as sample
from ccapi.db import migrations
from ccapi.db.pool import Database
from ccapi.embedded import PrivatePostgres, find_installations
from ccapi.model.job import JobKey, NewJob

_NOW = 1_768_978_339
_SHARED = {1: "none", 2: "single_user", 0: "multi_user"}
_COMMAND = (sys.executable, "-c", "from ccapi.cli import main; main()", "archive")


class CommandRun(NamedTuple):
    """A completed run of the command."""

    status: int
    seconds: float
    peak_kib: int
    output: str


class Site:
    """A database and an archive."""

    def __init__(self, postgres: PrivatePostgres, directory: Path, name: str) -> None:
        with psycopg.connect(postgres.url, autocommit=True) as conn:
            conn.execute(f"CREATE DATABASE {name}".encode())
        self.url = postgres.database_url(name)
        self.root = directory / name
        self.database = Database(self.url)
        migrations.migrate(self.database)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start `ccapi archive` with arguments."""
        settings = {"CCAPI_DATABASE_URL": self.url, "CCAPI_ARCHIVE_ROOT": str(self.root)}
        environment = {**os.environ, "CCAPI_CONFIG": os.devnull, **settings}
        pipe = subprocess.PIPE
        return subprocess.Popen([*_COMMAND, *arguments], env=environment, stdout=pipe, text=True)

    def run(self, *arguments: str) -> CommandRun:
        """Run `ccapi archive` to its end and measure its memory."""
        began, peak = time.monotonic(), 0
        with self.start(*arguments) as process:
            while process.poll() is None:
                peak = peak_kib(process.pid) or peak
                time.sleep(0.02)
            output = process.stdout.read() if process.stdout else ""
        return CommandRun(process.returncode, time.monotonic() - began, peak, output)

    def count(self) -> int:
        """Count the registered jobs."""
        with self.database.connection() as conn:
            row = conn.execute("SELECT count(*) FROM jobs").fetchone()
        assert row is not None
        return int(row[0])


def peak_kib(pid: int) -> int:
    """Return the peak memory of a process; 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text("ascii")
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line), 0)


def make_tree(root: Path, count: int) -> None:
    """Write an archive as a newer ClusterCockpit does, with zeros, units and scopes."""
    root.mkdir(parents=True)
    (root / "version.txt").write_text("1\n", "ascii")
    for document in documents(count):
        key = JobKey(document["cluster"], document["jobId"], document["startTime"])
        path = layout.meta_path(root, key)
        path.parent.mkdir(parents=True)
        path.write_bytes(orjson.dumps(document))


def documents(count: int) -> Iterator[dict[str, Any]]:
    """Yield documents of finished sample jobs."""
    finished = (job for job in sample.jobs(count + 500, now=_NOW) if job.stop_time is not None)
    for _, job in zip(range(count), finished, strict=False):
        yield _document(job)


def _document(job: NewJob) -> dict[str, Any]:
    statistics = {
        metric: {**values, "unit": {"base": values["unit"], "prefix": None}}
        for metric, values in (job.statistics or {}).items()
    }
    return {
        "jobId": job.job_id,
        "user": job.user_name,
        "project": job.project,
        "cluster": job.cluster,
        "subCluster": job.sub_cluster,
        "partition": job.partition,
        "arrayJobId": job.array_job_id or 0,
        "numNodes": job.num_nodes,
        "numHwthreads": job.num_hwthreads or 0,
        "numAcc": job.num_acc or 0,
        "shared": _SHARED[job.exclusive],
        "monitoringStatus": 1,
        "smt": job.smt or 0,
        "walltime": job.walltime or 0,
        "jobState": job.job_state,
        "startTime": job.start_time,
        "duration": max(1, (job.stop_time or 0) - job.start_time),
        "resources": job.resources,
        "metaData": job.meta_data,
        "tags": [{**tag._asdict(), "scope": "global", "id": 7} for tag in job.tags] or None,
        "statistics": statistics,
        "footprint": {"mem_bw_avg": 1.5},
        "energy": 0.5,
    }


def kill_again_and_again(site: Site, tree: Path, jobs: int, kills: int, seconds: float) -> None:
    """Kill imports, each at a random moment while it works; print the progress."""
    while kills:
        process = site.start("import", str(tree))
        time.sleep(0.5 + random.uniform(0, 2 * seconds / (kills + 1)))
        was_alive = process.poll() is None
        process.kill()
        process.communicate()
        kills -= 1
        print(
            f"  killed {'while it worked' if was_alive else 'too late'}: {site.count()} of {jobs}"
        )


def files(root: Path) -> Iterator[tuple[Path, bytes]]:
    """Read every meta.json."""
    for path in sorted(root.rglob(layout.META_FILE)):
        yield path.relative_to(root), path.read_bytes()


def report(name: str, run: CommandRun, jobs: int) -> None:
    """Print the speed and the peak memory of a run."""
    rate = jobs / run.seconds
    print(f"{name}: {rate:,.0f} jobs/s, peak {run.peak_kib / 1024:.1f} MiB; {run.output.strip()}")


def run_all(postgres: PrivatePostgres, directory: Path, jobs: int, kills: int) -> bool:
    """Run all imports; return whether every result is right."""
    small, large = directory / "small-tree", directory / "large-tree"
    make_tree(small, jobs // 10)
    make_tree(large, jobs)
    tenth, whole = Site(postgres, directory, "tenth"), Site(postgres, directory, "whole")
    report("a tenth", tenth.run("import", str(small)), jobs // 10)
    first = whole.run("import", str(large))
    report("all", first, jobs)
    report("all, already there", whole.run("import", str(large)), jobs)
    orphans = Site(postgres, directory, "orphans")
    orphans.root = large
    report("orphans of the own archive", orphans.run("repair", "--import"), jobs)
    killed = Site(postgres, directory, "killed")
    kill_again_and_again(killed, large, jobs, kills, first.seconds)
    report("resumed", killed.run("import", str(large)), jobs)
    good = True
    for site in (whole, orphans, killed):
        check = site.run("check")
        print(f"{site.root.name}: {site.count()} jobs; check: {check.output.strip()[-200:]}")
        good = good and check.status == 0 and site.count() == jobs
    same = all(one == two for one, two in zip(files(whole.root), files(killed.root), strict=True))
    print(f"archives are {'the same' if same else 'NOT the same'}")
    return good and same


def main() -> None:
    """Run all imports as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--directory", type=Path, default=Path("/dev/shm"))
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="ccapi-import-", dir=arguments.directory))
    directory.chmod(0o755)
    try:
        newest = max(find_installations(), key=lambda installation: installation.major)
        with PrivatePostgres(directory / "postgresql", newest) as postgres:
            good = run_all(postgres, directory, arguments.jobs, arguments.kills)
    finally:
        shutil.rmtree(directory)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
