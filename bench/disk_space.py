"""Disk space per job, with all indexes."""

from collections.abc import Iterator
from random import Random

from bench.http_requests import START_TIME
from bench.report import Row
from bench.testbed import Testbed, prepare_database, query_number
from ccapi.model.job import NewJob
from ccapi.repository import bulk_insert

_JOBS = 20_000
_BATCH = 1_000
_STOP_RUNNING_JOBS = """
DO $$
DECLARE job bigint;
BEGIN
    FOR job IN SELECT id FROM jobs WHERE job_state = 'running' ORDER BY id LOOP
        UPDATE jobs
        SET job_state = 'completed', stop_time = start_time + 60 + 7919 * job % 80000,
            monitoring_status = 3
        WHERE id = job;
        COMMIT;
    END LOOP;
END $$
"""
_SIZE = "SELECT pg_total_relation_size('jobs') + pg_total_relation_size('job_tags')"
_SCRIPT_BYTES = 1024
_PROGRAMS = ("gromacs", "lammps", "openfoam", "cp2k", "namd", "quantum-espresso", "wrf", "siesta")


def bytes_per_job(testbed: Testbed) -> Iterator[Row]:
    """Measure jobs on 4 nodes, with 72 hardware threads each and a script of 1 KB."""
    database = prepare_database(testbed.postgres, "sizes")
    with database.session() as conn:
        conn.execute("TRUNCATE jobs CASCADE")
        for first in range(0, _JOBS, _BATCH):
            with conn.transaction():
                bulk_insert.load(conn, [_make_job(first + index) for index in range(_BATCH)])
            conn.execute(_STOP_RUNNING_JOBS)
            conn.execute("VACUUM (ANALYZE) jobs")
    size = query_number(database, _SIZE)
    indexes = query_number(database, "SELECT pg_indexes_size('jobs')")
    yield Row(
        what="bytes per job (4 x 72 hwthreads, script of 1 KB)",
        measured=size / _JOBS,
        bar=1700,
        unit="bytes",
        details=f"{indexes / _JOBS:.0f} of them for indexes; {_JOBS:,} jobs, "
        "each stopped in its own transaction",
    )


def _make_job(index: int) -> NewJob:
    rng = Random(index)  # noqa: S311 - not for secrets
    first_node = rng.randrange(8000)
    return NewJob(
        job_id=10_000_000 + index,
        user_name=f"abcd{rng.randrange(1000):03}h",
        project=f"abcd{rng.randrange(100):03}",
        cluster="fritz",
        sub_cluster="main",
        partition="multinode",
        start_time=START_TIME + 3 * index,
        walltime=86_400,
        num_hwthreads=288,
        smt=1,
        resources=[
            {"hostname": f"f{first_node + node:04}", "hwthreads": list(range(72))}
            for node in range(4)
        ],
        meta_data={"jobName": f"run_{index}", "jobScript": _make_script(rng)},
    )


def _make_script(rng: Random) -> str:
    """Return a script whose values differ from job to job, as users' scripts do."""
    program = rng.choice(_PROGRAMS)
    lines = ["#!/bin/bash -l", "#SBATCH --nodes=4 --time=24:00:00", f"module load {program}"]
    while len("\n".join(lines)) < _SCRIPT_BYTES:
        case = f"case_{rng.randrange(10_000):04}"
        lines.append(f"export {program[:4].upper()}_{rng.randrange(100)}={rng.random():.6f}")
        lines.append(f"srun --cpu-bind=cores {program} -i $WORK/{case}/input.dat -o {case}.log")
    return "\n".join(lines)[:_SCRIPT_BYTES]
