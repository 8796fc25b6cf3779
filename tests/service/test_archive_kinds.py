"""Jobs of every kind in an archive of version 3, read by the family's structs and as described."""

import json
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ccapi.archive import writer
from ccapi.context import Context
from ccapi.model.cluster import Cluster, Clusters
from ccapi.model.job import FINAL_STATES, SHARED, NewJob, Tag
from ccapi.repository import bulk_insert
from ccapi.service import archive, archive_check
from tests.archive import version3_reader
from tests.clients.family import program

__all__ = ["program"]

pytestmark = pytest.mark.slow
SHARED_MEMORY = Path("/dev/shm")
NUM_JOBS = 10_000
START = 1_768_978_339
USERS = ("abcd100h", "größe", "用户", 'o\'neill "x" <&>', "e\u0301\u2028")
UNITS = ("GB/s", "W", "", "°C", "TF/s", "packets/s", "J", "%")
# What the family's JSON schema wants in the statistics of each job.
REQUIRED_METRICS = ("cpu_user", "cpu_load", "mem_used", "flops_any", "mem_bw")
FRITZ = Cluster.of("fritz", {"main": [f"f{n:04}" for n in range(1, 300)], "spr": ["f2101"]})
CLUSTERS = Clusters((FRITZ, Cluster.of("alex", {}), Cluster.of("a.b_c-d", {"x": ["a.b_c"]})))


def make_job(i: int) -> NewJob:
    """Make the job with a number; the kinds of its fields have coprime periods."""
    start = START + i
    optional: dict[str, Any] = {}
    if i % 7 < 4:
        script = '#!/bin/bash\n\techo "$HOME" \\ \x01\n'
        name = f"rotor \u2028 größe \U0001f680 <{i}>"
        optional["meta_data"] = {"jobName": name, "jobScript": script, "": ""}
    if i % 11 < 5:
        optional |= {"array_job_id": i + 1, "walltime": 86_400, "submit_time": start - 60}
        optional |= {"smt": 2, "num_hwthreads": 2**31 + i, "requested_memory": 2**63 - 1}
    if i % 13 < 6:
        optional |= {"energy": 12.345678901234567, "footprint": {"": -1.5e-300, "größe": 1.7e308}}
        optional["energy_footprint"] = {"cpu": 10.1}
    return NewJob(
        job_id=(i + 1) if i % 3 else 2**53 + i,
        user_name=USERS[i % 5],
        cluster=("fritz", "alex", "a.b_c-d")[i % 3],
        sub_cluster=("", "main", "spr", "unknown")[i // 3 % 4],
        project=("abcd200", "", "プロジェクト")[i // 5 % 3],
        partition=(None, "multinode", "a b")[i // 7 % 3],
        start_time=start,
        stop_time=start + (0, 1, 2**31 + i, 86_400)[i // 2 % 4],
        job_state=FINAL_STATES[i % len(FINAL_STATES)],
        exclusive=i // 4 % 3,
        monitoring_status=3,
        num_acc=(None, 4, 2**40)[i // 9 % 3],
        resources=make_resources(i),
        statistics=make_statistics(i),
        tags=[Tag("größe", f"n {n} \U0001f680") for n in range(i // 11 % 4)],
        **optional,
    )


def make_resources(i: int) -> list[dict[str, Any]]:
    node: dict[str, Any] = {}
    if i // 8 % 4 in {1, 2}:
        node = {"hwthreads": [0, 1, 2, 2**31]}
    if i // 8 % 4 == 2:
        node |= {"accelerators": ["00000000:01:00.0"], "configuration": "größe"}
    return [{"hostname": f"f{number:04}", **node} for number in range(i % 8 + 1)]


def make_statistics(i: int) -> dict[str, Any] | None:
    if i % 17 < 6:
        return None
    metrics = [*REQUIRED_METRICS[: 5 if i % 17 < 12 else 2], *(["größe"] if i % 5 else [])]
    # The schema knows few units.
    units = UNITS[:5] if i % 5 == 0 else UNITS
    return {
        metric: {"unit": units[(i + n) % len(units)], "avg": 1.5, "min": 0, "max": 2e300}
        for n, metric in enumerate(metrics)
    }


@pytest.fixture(scope="module")
def made() -> dict[tuple[str, int], NewJob]:
    """Return all jobs by cluster and job id."""
    jobs = [make_job(i) for i in range(NUM_JOBS)]
    return {(job.cluster, job.job_id): job for job in jobs}


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory, if there is one: a disk needs minutes to sync so many files."""
    parent = SHARED_MEMORY if SHARED_MEMORY.is_dir() else tmp_path
    with tempfile.TemporaryDirectory(dir=parent) as directory:
        yield Path(directory)


@pytest.fixture
def root(context: Context, made: dict[tuple[str, int], NewJob], directory: Path) -> Path:
    """Archive all jobs from the database, and return the archive."""
    context = replace(context, archive_root=directory / "kinds", clusters=CLUSTERS)
    writer.create_if_missing(context.archive_root, 3, CLUSTERS)
    with context.database.transaction() as conn:
        bulk_insert.load(conn, list(made.values()))
        conn.execute("INSERT INTO archive_queue (job) SELECT id FROM jobs")
    assert sum(job.is_archived for job in archive.retry(context)) == NUM_JOBS
    assert list(archive_check.check(context)) == []
    return context.archive_root


def test_archive_of_every_kind_of_job_is_as_described(
    root: Path, made: dict[tuple[str, int], NewJob], program: Path
) -> None:
    read = {(job["cluster"], job["jobId"]): job for job in version3_reader.read(root)}
    assert read.keys() == made.keys()
    for key, job in made.items():
        document = read[key]
        true = {**document, **document.pop("ccapi", {})}
        assert true["jobState"] == job.job_state
        assert true["subCluster"] == job.sub_cluster
        assert true["duration"] == max(1, (job.stop_time or 0) - job.start_time)
        assert (true.get("numAcc"), true.get("numHwthreads")) == (job.num_acc, job.num_hwthreads)
        assert document["shared"] == SHARED[job.exclusive]
        assert (document["user"], document["project"]) == (job.user_name, job.project)
        assert document.get("metaData") == job.meta_data
        assert (document.get("energy"), document.get("footprint")) == (job.energy, job.footprint)
        assert document.get("requestedMemory") == job.requested_memory
        assert document.get("submitTime") == job.submit_time
        assert document["resources"] == job.resources
        assert {tag["name"] for tag in document["tags"]} == {tag.name for tag in job.tags}
        units = {
            metric: values["unit"].get("prefix", "") + values["unit"]["base"]
            for metric, values in document["statistics"].items()
        }
        assert units == {name: item["unit"] for name, item in (job.statistics or {}).items()}
    assert Counter(document["jobState"] for document in read.values()).keys() == (
        version3_reader.STATES
    )
    printed = subprocess.run(
        [program, "archive", root], capture_output=True, text=True, timeout=300, check=False
    )
    assert printed.returncode == 0, printed.stderr
    counts = json.loads(printed.stdout)
    assert counts["jobs"] == NUM_JOBS
    assert counts["clusters"] == len(CLUSTERS.described)
    assert counts["validated"] > NUM_JOBS / 20
