"""The runs of jobs as sacct and ccapi have them, and how the two differ."""

import os
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from ccapi_slurm import hostlist, job_record
from ccapi_slurm.end_states import SLURM_STATES

FIELDS = (
    "JobIDRaw,State,Start,End,Submit,User,UID,Account,Partition,NodeList,AllocCPUS,AllocTRES,"
    "Timelimit,QOS,JobName"
)
# How many jobs start and end at once.
BURST = int(os.environ.get("SLURM_BURST", "500"))
SEPARATOR = "\x1f"
COMMAND = ("sacct", "-a", "-X", "-n", "-P", "-D", f"--delimiter={SEPARATOR}", "-S", "now-1days")


class Row(NamedTuple):
    """What a run is in sacct or in ccapi; times are epoch seconds."""

    job_id: int
    state: str
    start: int
    duration: int
    submit: int
    user: str
    project: str
    partition: str
    hosts: tuple[str, ...]
    threads: int
    gpus: int
    walltime: int
    qos: str
    name: str


def rows_of_sacct(output: str) -> list[Row]:
    """Return all runs that had nodes; the parts of a resized one are joined."""
    rows: list[Row] = []
    resized: dict[str, tuple[int, int]] = {}
    for fields in sorted(_cells(output), key=lambda cell: cell[2]):
        number, word, *times = fields[:5]
        start, end, submit = map(job_record.parse_time, times)
        if not start or fields[9] == "None assigned":
            continue
        # The last part of a resized job was "submitted" when it began.
        start, submit = resized.pop(number, (start, submit))
        if word == "RESIZING":
            resized[number] = start, submit
            continue
        rows.append(_row(fields, SLURM_STATES[word.split()[0]], start, end, submit))
    return rows


def _cells(output: str) -> list[list[str]]:
    """Split the output into rows and fields; texts of users may have several lines."""
    rows: list[list[str]] = []
    row = ""
    for line in output.removesuffix("\n").split("\n"):
        row = f"{row}\n{line}" if row else line
        if SEPARATOR not in row:
            rows[-1][-1] += f"\n{row}"
        elif row.count(SEPARATOR) < FIELDS.count(","):
            continue
        else:
            rows.append(row.split(SEPARATOR))
        row = ""
    return rows


def _row(fields: list[str], state: str, start: int, end: int, submit: int) -> Row:
    number, user, uid, project, partition, hosts, cpus, tres, limit, qos, name = (
        fields[0],
        *fields[5:],
    )
    gpus = re.search(r"gres/gpu=(\d+)", tres)
    return Row(
        int(number), state, start, max(1, end - start), submit, user or f"uid:{uid}", project,
        partition, tuple(hostlist.expand(hosts)), int(cpus), int(gpus[1]) if gpus else 0,
        job_record.parse_duration(limit), qos, name,
    )  # fmt: skip


def row_of_ccapi(job: dict[str, Any]) -> Row:
    meta_data = job["metaData"]
    hosts = tuple(node["hostname"] for node in job["resources"])
    assert job["numNodes"] == len(hosts)
    return Row(
        job["jobId"], job["jobState"], job["startTime"], job["duration"], job["submitTime"],
        job["user"], job["project"], job["partition"], hosts, job.get("numHwthreads", 0),
        job.get("numAcc", 0), job.get("walltime", 0), meta_data.get("qos", ""),
        # sacct has this word for a job without a name.
        meta_data.get("jobName") or "allocation",
    )  # fmt: skip


def differences(expected: Iterable[Row], rows: Iterable[Row]) -> list[str]:
    """Return each field in which two sets of runs differ, and the runs that only one has."""
    of_expected = {(row.job_id, row.start): row for row in expected}
    of_rows = {(row.job_id, row.start): row for row in rows}
    different = [f"only one has {key}" for key in of_expected.keys() ^ of_rows.keys()]
    for key in of_expected.keys() & of_rows.keys():
        pairs = zip(Row._fields, of_expected[key], of_rows[key], strict=True)
        different += [f"{key} {name}: {one!r} is {two!r}" for name, one, two in pairs if one != two]
    return different
