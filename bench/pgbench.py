"""Throughput of PostgreSQL alone: pgbench with the SQL of a start."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson

from bench.http_requests import START_BODY, START_TIME
from bench.testbed import Instance
from ccapi.db import queries
from ccapi.embedded import PrivatePostgres
from ccapi.model.job import NewJob
from ccapi.repository import codec

_PARAMETER = re.compile(r"%\((\w+)\)s")
_RATE = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)
# A placeholder in the job's JSON; pgbench replaces it by a random number for each start.
_JOB_ID = 7_777_777_777
_JOB_IDS = "random(10000000, 20000000000)"


def starts_per_second(
    postgres: PrivatePostgres, instance: Instance, *, clients: int, seconds: int
) -> float:
    """Return how many starts per second pgbench executes with prepared statements."""
    parameters = _parameters()
    statements = (queries.load("tokens")["find_token"], queries.load("jobs")["insert_job"])
    lines = [f"\\set job_id {_JOB_IDS}"]
    lines += [_to_pgbench(statement, parameters) for statement in statements]
    script = instance.server.socket.with_name("start.pgbench")
    script.write_text("\n".join(lines) + "\n", "utf-8")
    program = Path(postgres.installation.postgres).with_name("pgbench")
    command = [str(program) if program.exists() else "pgbench", "--no-vacuum"]
    command += ["--protocol", "prepared", "--file", str(script)]
    command += ["--client", str(clients), "--jobs", "2", "--time", str(seconds)]
    for name, value in parameters.items():
        command += ["--define", f"{name}={value}"]
    process = subprocess.run(  # noqa: S603 - a fixed command
        [*command, postgres.database_url(instance.name)],
        capture_output=True,
        text=True,
        check=False,
    )
    rate = _RATE.search(process.stdout)
    if process.returncode or not rate:
        sys.exit(f"pgbench failed: {process.stderr or process.stdout}")
    return float(rate[1])


def _to_pgbench(statement: str, parameters: dict[str, str]) -> str:
    """Replace psycopg's parameters by pgbench's variables; fields that a start omits are NULL."""

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        return f":{name}" if name in parameters or name == "job_id" else "NULL"

    text = _PARAMETER.sub(replace, statement).replace("%%", "%").strip()
    text = text.replace(":job::json", f"replace(:job, '{_JOB_ID}', :job_id::text)::json")
    return text if text.endswith(";") else f"{text};"


def _parameters() -> dict[str, str]:
    """Return the parameters of a start's statements, as texts."""
    fields: dict[str, Any] = {
        "job_id": _JOB_ID,
        "user_name": START_BODY["user"],
        "project": START_BODY["project"],
        "cluster": "pgbench",
        "sub_cluster": START_BODY["subCluster"],
        "partition": START_BODY["partition"],
        "array_job_id": START_BODY["arrayJobId"],
        "num_nodes": START_BODY["numNodes"],
        "num_hwthreads": START_BODY["numHwthreads"],
        "exclusive": START_BODY["exclusive"],
        "smt": START_BODY["smt"],
        "walltime": START_BODY["walltime"],
        "monitoring_status": START_BODY["monitoringStatus"],
        "start_time": START_TIME,
        "resources": START_BODY["resources"],
        "meta_data": START_BODY["metaData"],
    }
    row = codec.to_row(NewJob(**fields))
    return {
        "digest": "\\x" + "00" * 32,
        "ttl": "1",
        "cluster": "pgbench",
        "start_time": str(START_TIME),
        "duplicate_window": "60",
        "job": orjson.dumps(row).decode(),
        "hosts": json.dumps([node["hostname"] for node in START_BODY["resources"]]),
    }
