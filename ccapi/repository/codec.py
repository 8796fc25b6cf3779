"""What a job's JSON looks like in the database: the same in less room.

Nodes that a job uses alike are one object, whose "hostname" is the array of their names, and
hardware threads are written as ranges: "0-71". Metadata is deflated, if that makes it shorter.
"""

import zlib
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

import orjson
from orjson import Fragment
from psycopg import Cursor

from ccapi.model.job import Job

# Shared by all job scripts, so that even a short one is pressed: what they are full of, the
# most frequent last. Never to be changed: what was pressed with it could not be read any more.
_PHRASES = (
    b'"message":"","workDir":"","stdout":"","stderr":"","slurmInfo":"JobId= JobName= UserId=","'
    b'jobScript":"#!/bin/bash\\n#!/bin/bash -l\\n'
    b"while read -r line; do\\nfor i in $(seq 1 10); do\\ndone\\nif [ $? -ne 0 ]; then\\n  exit 1"
    b"\\nfi\\nelse\\nsource $HOME/.bashrc\\nconda activate python3 -u \\nulimit -s unlimited\\n"
    b"set -euo pipefail\\nrsync -a mkdir -p cp -r cd $TMPDIR\\ncd $HOME/cd $WORK/"
    b'cd $SLURM_SUBMIT_DIR\\ndate\\nhostname\\necho \\"Job $SLURM_JOB_ID started on '
    b'$SLURM_JOB_NODELIST at $(date)\\"\\n$SLURM_JOB_NAME $SLURM_NNODES $SLURM_NTASKS '
    b"$SLURM_ARRAY_TASK_ID $SLURM_CPUS_PER_TASK apptainer exec --nv mpirun -np mpiexec -n "
    b"srun --mpi=pmix --cpu-bind=cores ./a.out > output.log 2>&1\\n"
    b"export OMP_PLACES=cores\\nexport OMP_PROC_BIND=true\\nexport I_MPI_PIN=1\\n"
    b"export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK\\n"
    b"export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK\\nunset SLURM_EXPORT_ENV\\nmodule purge\\n"
    b"module load openmpi intelmpi/ intel/ mkl/ gcc/ cuda/ python/ \\n"
    b"#SBATCH --mail-user=\\n#SBATCH --array=1-\\n#SBATCH --account=\\n#SBATCH --exclusive\\n"
    b"#SBATCH --constraint=\\n#SBATCH --qos=\\n#SBATCH --gres=gpu:1\\n#SBATCH --mem=G\\n"
    b"#SBATCH --mail-type=END,FAIL\\n#SBATCH --error=%x.%j.err\\n#SBATCH --output=%x.%j.out\\n"
    b"#SBATCH --export=NONE\\n#SBATCH --cpus-per-task=\\n#SBATCH --ntasks-per-node=\\n"
    b"#SBATCH --ntasks=\\n#SBATCH --nodes=1\\n#SBATCH --partition=\\n#SBATCH --time=24:00:00\\n"
    b'#SBATCH --job-name={"jobName":"'
)
_LEVEL = 6
# The most that PostgreSQL holds in a field; what is larger was never written by `press`.
_MOST_BYTES = 2**30
_OBJECT = b"{"
# Fewer numbers in a row are shorter than their range.
_FEW = 3
# A node has a few hundred threads; what is larger is not to fill the workers' memory.
_MOST_REMEMBERED, _LONGEST_REMEMBERED = 256, 8192
_remembered: dict[str, Fragment] = {}


def press(text: bytes) -> bytes:
    """Deflate a JSON object, unless that makes it longer."""
    deflate = zlib.compressobj(_LEVEL, zdict=_PHRASES)
    pressed = deflate.compress(text) + deflate.flush()
    return pressed if len(pressed) < len(text) else text


def unpress(data: bytes) -> str:
    """Return the JSON that `press` was given; zlib.error for what is none of its results."""
    if data.startswith(_OBJECT):
        return data.decode()
    inflate = zlib.decompressobj(zdict=_PHRASES)
    text = inflate.decompress(data, _MOST_BYTES)
    if not inflate.eof:
        raise zlib.error("is cut off, or is larger than anything that was ever written")
    return text.decode()


def meta_data(values: Mapping[str, str] | None) -> bytes | None:
    """Write metadata as its column holds it; None when there is none."""
    return press(orjson.dumps(values)) if values else None


def resources(nodes: Iterable[Mapping[str, Any]]) -> str:
    """Write the nodes of a job as their column holds them."""
    alike = groupby(nodes, _use)
    groups = [_group([node["hostname"] for node in found], use) for use, found in alike]
    return orjson.dumps(groups).decode()


def statistics(values: Mapping[str, Any] | None) -> str | None:
    """Write statistics as their column holds them: plain JSON."""
    return orjson.dumps(values).decode() if values else None


def packed(job: Job) -> dict[str, Any]:
    """Write a job, as an archive has it, in JSON for the database; metadata in base64."""
    row = asdict(job)
    row["resources"] = resources(orjson.loads(job.resources))
    if job.meta_data is not None:
        row["meta_data"] = b64encode(press(job.meta_data.encode())).decode()
    return row


def _use(node: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return what a node is used for, in its order: but for its name, if that comes first."""
    (first, _), *rest = items = list(node.items())
    return rest if first == "hostname" else items


def _group(hosts: Sequence[str], use: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    name = hosts[0] if len(hosts) == 1 else hosts
    shown = {key: _ranges(value) if key == "hwthreads" else value for key, value in use}
    return shown if "hostname" in shown else {"hostname": name, **shown}


def _ranges(numbers: list[int]) -> str | list[int]:
    """Write numbers as 0-35,72-107; as they are, if that would be no shorter."""
    if len(numbers) < _FEW:
        return numbers
    if numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        return f"{numbers[0]}-{numbers[-1]}"  # as a rule, and found at C speed
    # Where a number is not the one before it plus one, a range begins.
    begins = [0] + [n for n in range(1, len(numbers)) if numbers[n] != numbers[n - 1] + 1]
    if _FEW * len(begins) > len(numbers):
        return numbers
    ends = [*(begin - 1 for begin in begins[1:]), len(numbers) - 1]
    bounds = zip(begins, ends, strict=True)
    return ",".join(f"{numbers[begin]}-{numbers[end]}" for begin, end in bounds)


def nodes(packed: str) -> str:
    """Write out what `resources` wrote: a JSON array with an object per node."""
    written: list[dict[str, Any]] = []
    for group in orjson.loads(packed):
        threads = group.get("hwthreads")
        if type(threads) is str:
            group["hwthreads"] = _numbers(threads)
        if type(group["hostname"]) is str:
            written.append(group)
        else:
            written += [{**group, "hostname": host} for host in group["hostname"]]
    return orjson.dumps(written).decode()


def _numbers(ranges: str) -> Fragment:
    """Write ranges out as a JSON array; most jobs have one of a few, which are remembered."""
    known = _remembered.get(ranges)
    return _write_numbers(ranges) if known is None else known


def _write_numbers(ranges: str) -> Fragment:
    numbers: list[int] = []
    for one in ranges.split(","):
        first, last = one.split("-")
        numbers += range(int(first), int(last) + 1)
    content = orjson.dumps(numbers)
    written = Fragment(content)
    if len(content) <= _LONGEST_REMEMBERED:
        if len(_remembered) >= _MOST_REMEMBERED:
            _remembered.clear()
        _remembered[ranges] = written
    return written


def job_row(cursor: Cursor[Any]) -> Callable[[Sequence[Any]], Job]:
    """Make a Job of each row whose columns are its fields, in their order; for psycopg."""
    del cursor
    return _job


def _job(values: Sequence[Any]) -> Job:
    *row, resources, statistics, tags, meta_data = values
    row += nodes(resources), statistics, tags, None if meta_data is None else unpress(meta_data)
    return Job(*row)
