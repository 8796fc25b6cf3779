"""Write archived jobs as Parquet, for analysts; needs pyarrow, the extra "parquet"."""

import os
import secrets
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from ccapi.archive.os_errors import as_archive_error
from ccapi.errors import StartupError
from ccapi.model.job import Job

_BATCH_SIZE = 10_000
_INTEGERS = (
    "job_id", "array_job_id", "num_nodes", "num_hwthreads", "num_acc", "smt", "walltime",
    "requested_memory",
)  # fmt: skip
_TEXTS = (
    "user_name", "project", "cluster", "sub_cluster", "partition", "shared", "job_state",
    "meta_data", "statistics", "footprint", "energy_footprint",
)  # fmt: skip
_TIMES = ("submit_time", "start_time", "stop_time")


def write(path: Path, jobs: Iterable[Job]) -> int:
    """Write finished jobs to a file, in constant memory; return how many they are.

    The file appears when it is complete. Objects such as meta_data are JSON texts. Raises
    StartupError without pyarrow, and ArchiveError.
    """
    pyarrow, parquet = _import()
    schema = _schema(pyarrow)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    number = 0
    with as_archive_error("write", path):
        try:
            with parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
                for batch in _batches(jobs):
                    rows = pyarrow.Table.from_pylist([_row(job) for job in batch], schema=schema)
                    writer.write_table(rows)
                    number += len(batch)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
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
            ("duration", pyarrow.int64()),
            ("energy", pyarrow.float64()),
            ("job_name", pyarrow.string()),
            ("hosts", strings),
            ("tags", strings),
        ]
    )


def _row(job: Job) -> dict[str, Any]:
    assert job.stop_time is not None
    row = {name: getattr(job, name) for name in (*_INTEGERS, *_TEXTS, *_TIMES)}
    tags = orjson.loads(job.tags)
    return {
        **row,
        "duration": job.duration(job.stop_time),
        "energy": job.energy,
        "job_name": orjson.loads(job.meta_data or "{}").get("jobName"),
        "hosts": [node["hostname"] for node in orjson.loads(job.resources)],
        "tags": [f"{tag['type']}:{tag['name']}" for tag in tags],
    }


def _batches(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    remaining = iter(jobs)
    while batch := list(islice(remaining, _BATCH_SIZE)):
        yield batch
