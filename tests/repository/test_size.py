"""Disk space per job, with indexes and TOAST."""

from random import Random

import pytest

from ccapi.db.pool import Database
from ccapi.model.job import NewJob
from ccapi.repository import bulk_insert
from tests.client import START

JOBS = 4_000
# PostgreSQL does not compress rows below 2 KB, so a script of 1 KB is stored as it is.
MAX_BYTES = 2_200
SCRIPT = """\
#!/bin/bash -l
#SBATCH --job-name={name}
#SBATCH --partition=multinode
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=72
#SBATCH --time={hours:02}:00:00
#SBATCH --output=%x.%j.out
#SBATCH --mail-type=END,FAIL
#SBATCH --export=NONE

unset SLURM_EXPORT_ENV

# load the compiler and libraries the solver was built with
module purge
module load intel/2021.4.0 intelmpi/2021.6.0 mkl/2021.4.0
module load {application}

# no hybrid parallelism, one thread per rank
export OMP_NUM_THREADS=1
export I_MPI_PIN=1

# work on the parallel file system, not in the home directory
WORKDIR=$WORK/{name}/run_{number:05}
mkdir -p $WORKDIR
cp -r $SLURM_SUBMIT_DIR/* $WORKDIR
cd $WORKDIR

echo "job $SLURM_JOB_ID started on $SLURM_JOB_NODELIST at $(date)"
srun --cpu-bind=cores solver -i input.dat -o result_{number:05}.h5 --seed {seed} > log.solver
status=$?

# copy the results back and clean up
rsync -a result_{number:05}.h5 log.solver $SLURM_SUBMIT_DIR/
echo "finished with status $status at $(date)"
exit $status
"""


def make_job(number: int, random: Random) -> NewJob:
    """Make a job on 4 nodes with 72 hardware threads each and a script of 1 KB."""
    first = random.randrange(1, 900)
    values = {"hours": random.randrange(1, 24), "seed": random.getrandbits(31)}
    script = SCRIPT.format(
        name=random.choice(["rotor", "relax", "train"]) + str(random.randrange(999)),
        application=random.choice(["openfoam/v2312", "gromacs/2023.4-mkl", "lammps/2023.08"]),
        number=random.randrange(99_999),
        **values,
    )
    return NewJob(
        job_id=number,
        user_name=f"abcd{random.randrange(500):03}h",
        project=f"abcd{random.randrange(90):03}",
        cluster=random.choice(["fritz", "alex"]),
        sub_cluster="main",
        partition="multinode",
        start_time=START + 3 * number,
        walltime=86_400,
        num_hwthreads=288,
        smt=1,
        resources=[
            {"hostname": f"f{first + n:04}", "hwthreads": list(range(72))} for n in range(4)
        ],
        meta_data={"jobName": "rotor", "jobScript": script[:1024].ljust(1024, "#")},
    )


@pytest.mark.slow
def test_disk_space_per_job_is_bounded(database: Database) -> None:
    random = Random(1)
    with database.session() as conn:
        conn.execute("TRUNCATE jobs CASCADE")
        for first in range(1, JOBS + 1, 500):
            with conn.transaction():
                jobs = [make_job(number, random) for number in range(first, first + 500)]
                ids = bulk_insert.load(conn, jobs)
            stop_each(database, ids)
            conn.execute("VACUUM jobs")
        row = conn.execute(
            """
            SELECT pg_total_relation_size('jobs'), pg_relation_size('jobs'),
                   pg_indexes_size('jobs')
            """
        ).fetchone()
        conn.execute("TRUNCATE jobs CASCADE")
    assert row is not None
    total, rows, indexes = (size / JOBS for size in row)
    toast = total - rows - indexes
    print(f"{total:.0f} bytes per job: {rows:.0f} rows, {indexes:.0f} indexes, {toast:.0f} TOAST")
    assert total <= MAX_BYTES


def stop_each(database: Database, ids: list[int]) -> None:
    """Stop each job in its own transaction, as the service does."""
    with database.session() as conn:
        conn.execute(
            b"DO $$ DECLARE job bigint; BEGIN FOREACH job IN ARRAY ARRAY[%s] LOOP "
            b"UPDATE jobs SET job_state = 'completed', stop_time = start_time, "
            b"monitoring_status = 3 WHERE id = job; COMMIT; "
            b"END LOOP; END $$" % ",".join(map(str, ids)).encode()
        )
