"""Write archived jobs as Parquet, for analysts; needs pyarrow, the extra "parquet"."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from ccapi import atomic_file
from ccapi.archive.os_errors import as_archive_error
from ccapi.errors import StartupError
from ccapi.model.job import Job

_BATCH_SIZE = 10_000
# The columns have the names of jobs_view, so that a query can have either.
_INTEGERS = (
    "job_id", "array_job_id", "walltime", "num_nodes", "num_hwthreads", "num_acc", "smt",
    "exclusive", "requested_memory",
)  # fmt: skip
_TEXTS = (
    "user_name", "project", "cluster", "sub_cluster", "partition",
    "meta_data", "statistics", "footprint", "energy_footprint",
)  # fmt: skip
_TIMES = {"submitted_at": "submit_time", "started_at": "start_time", "stopped_at": "stop_time"}
_SECONDS_PER_HOUR = 3600


def write(path: Path, jobs: Iterable[Job]) -> int:
    """Write finished jobs to a file, in constant memory; return how many they are.

    The file appears when it is complete. Objects such as meta_data are JSON texts. Raises
    StartupError without pyarrow, and ArchiveError.
    """
    pyarrow, parquet = _import()
    schema = _schema(pyarrow)
    number = 0
    with (
        as_archive_error("write", path),
        atomic_file.create_at(path) as file,
        parquet.ParquetWriter(file, schema, compression="zstd") as writer,
    ):
        remaining = iter(jobs)
        while batch := list(islice(remaining, _BATCH_SIZE)):
            rows = pyarrow.Table.from_pylist([_row(job) for job in batch], schema=schema)
            writer.write_table(rows)
            number += len(batch)
    return number


def _import() -> tuple[Any, Any]:
    try:
        import pyarrow  # noqa: PLC0415 - an extra
        import pyarrow.parquet  # noqa: PLC0415 - an extra
    except ImportError:
        raise StartupError("Parquet needs pyarrow: install ccapi[parquet]") from None
    return pyarrow, pyarrow.parquet


def _schema(pyarrow: Any) -> Any:
    strings, times = pyarrow.list_(pyarrow.string()), pyarrow.timestamp("s", tz="UTC")
    return pyarrow.schema(
        [
            *((name, pyarrow.int64()) for name in _INTEGERS),
            *((name, pyarrow.string()) for name in _TEXTS),
            *((name, times) for name in _TIMES),
            ("name", pyarrow.string()),
            ("state", pyarrow.string()),
            ("duration", pyarrow.int64()),
            ("node_hours", pyarrow.float64()),
            ("energy", pyarrow.float64()),
            ("hosts", strings),
            ("tags", strings),
        ]
    )


def _row(job: Job) -> dict[str, Any]:
    assert job.stop_time is not None
    row = {name: getattr(job, name) for name in (*_INTEGERS, *_TEXTS)}
    times = {name: getattr(job, attribute) for name, attribute in _TIMES.items()}
    duration = job.duration(job.stop_time)
    tags = orjson.loads(job.tags)
    return {
        **row,
        **times,
        "state": job.job_state,
        "duration": duration,
        "node_hours": job.num_nodes * duration / _SECONDS_PER_HOUR,
        "energy": job.energy,
        "name": orjson.loads(job.meta_data or "{}").get("jobName"),
        "hosts": [node["hostname"] for node in orjson.loads(job.resources)],
        "tags": [f"{tag['type']}:{tag['name']}" for tag in tags],
    }
