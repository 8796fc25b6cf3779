"""What PostgreSQL alone does: pgbench with the very statements of a start."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson

from bench.site import BODY, START_TIME, Context
from ccapi.db import queries
from ccapi.embedded import PrivatePostgres
from ccapi.model.job import NewJob
from ccapi.repository import codec

_PARAMETER = re.compile(r"%\((\w+)\)s")
_RATE = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)
_MANY = 10_000_000
# Stands in the job's JSON where pgbench puts each start's own number.
_JOB_ID = 7_777_777_777


def starts_per_second(
    postgres: PrivatePostgres, context: Context, *, clients: int, seconds: int
) -> float:
    """Return how many starts a second pgbench carries out, each statement prepared."""
    script = context.service.socket.with_name("start.pgbench")
    values = _values()
    script.write_text(_script(values), "utf-8")
    command = [_program(postgres), "--no-vacuum", "--protocol", "prepared", "--file", str(script)]
    command += ["--client", str(clients), "--jobs", "2", "--time", str(seconds)]
    for name, value in values.items():
        command += ["--define", f"{name}={value}"]
    done = subprocess.run(  # noqa: S603 - the command is ours
        [*command, context.url], capture_output=True, text=True, check=False
    )
    found = _RATE.search(done.stdout)
    if done.returncode or not found:
        sys.exit(f"pgbench failed: {done.stderr or done.stdout}")
    return float(found[1])


def _program(postgres: PrivatePostgres) -> str:
    beside = Path(postgres.installation.postgres).with_name("pgbench")
    return str(beside) if beside.exists() else "pgbench"


def _script(values: dict[str, str]) -> str:
    """Write what the service sends for one start, each time with another number."""
    statements = (
        queries.load("tokens")["find_token"],
        queries.load("jobs")["insert_job"],
    )
    numbered = [f"\\set job_id random({_MANY}, {2_000 * _MANY})"]
    return "\n".join([*numbered, *(_translated(text, values) for text in statements)]) + "\n"


def _translated(statement: str, values: dict[str, str]) -> str:
    """Write a statement with pgbench's variables; what a start leaves out is NULL."""

    def put(found: re.Match[str]) -> str:
        name = found[1]
        return f":{name}" if name in values or name == "job_id" else "NULL"

    text = _PARAMETER.sub(put, statement).replace("%%", "%").strip()
    text = text.replace(":job::json", f"replace(:job, '{_JOB_ID}', :job_id::text)::json")
    return text if text.endswith(";") else f"{text};"


def _values() -> dict[str, str]:
    fields: dict[str, Any] = {
        "job_id": _JOB_ID,
        "user_name": BODY["user"],
        "project": BODY["project"],
        "cluster": "pgbench",
        "sub_cluster": BODY["subCluster"],
        "partition": BODY["partition"],
        "array_job_id": BODY["arrayJobId"],
        "num_nodes": BODY["numNodes"],
        "num_hwthreads": BODY["numHwthreads"],
        "exclusive": BODY["exclusive"],
        "smt": BODY["smt"],
        "walltime": BODY["walltime"],
        "monitoring_status": BODY["monitoringStatus"],
        "start_time": START_TIME,
        "resources": BODY["resources"],
        "meta_data": BODY["metaData"],
    }
    row = codec.to_row(NewJob(**fields))
    return {
        "digest": "\\x" + "00" * 32,
        "ttl": "1",
        "cluster": "pgbench",
        "start_time": str(START_TIME),
        "duplicate_window": "60",
        "job": orjson.dumps(row).decode(),
        "hosts": json.dumps([node["hostname"] for node in BODY["resources"]]),
    }
