"""The parsers of Slurm's output, including text that users control."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
from ccapi_slurm import hostlist, job_record
from ccapi_slurm.event import Event
from ccapi_slurm.job_record import JobRecord, Node

from tests.slurm.events import PROLOG, START, in_24_11, in_25_05, recorded, scontrol_output


def find(text: str, job_id: int, name: str = "rotor") -> JobRecord | None:
    variables = {**PROLOG, "SLURM_JOB_ID": str(job_id), "SLURM_JOB_NAME": name}
    return job_record.find(text, Event("prolog", START, variables, text, ""))


@pytest.mark.parametrize(
    "convert", [str, in_24_11, in_25_05], ids=["Slurm 22.05", "Slurm 24.11", "Slurm 25.05"]
)
def test_record_has_times_limit_nodes_hwthreads_and_gpus(
    convert: Callable[[str], str],
) -> None:
    record = find(convert(scontrol_output(7)), 7)
    assert record is not None
    assert (record.state, record.start_time, record.walltime) == ("CONFIGURING", START, 86_700)
    assert record.nodes == [Node("n1", [0, 1], ["0"]), Node("n2", [0, 1], ["0"])]
    assert record.exclusive == 0


class Recorded(NamedTuple):
    """A record that a real Slurm printed in a prolog."""

    name: str
    job_id: int
    hosts: str
    cpus: str
    nodes: list[Node]
    exclusive: int
    sluid: str


RECORDS = [
    Recorded(
        "26.05-gpus",
        2,
        "n[1-2]",
        "2(x2)",
        [Node("n1", [2, 3], ["0"]), Node("n2", [0, 1], ["0"])],
        0,
        "s...",
    ),
    Recorded("26.05-exclusive", 3, "n3", "8", [Node("n3", list(range(8)), ["0", "1"])], 1, "s..."),
    Recorded("26.05-user", 4, "n1", "2", [Node("n1", [4, 5], [])], 2, "s..."),
    Recorded("26.05-shared", 6, "n1", "2", [Node("n1", [6, 7], [])], 0, "s..."),
    Recorded("26.05-het", 8, "n1", "2", [Node("n1", [0, 1], [])], 0, "s..."),
    Recorded(
        "24.11-gpus",
        2,
        "n[1-2]",
        "2(x2)",
        [Node("n1", [2, 3], ["0"]), Node("n2", [0, 1], ["0"])],
        0,
        "",
    ),
    Recorded("24.11-exclusive", 3, "n3", "8", [Node("n3", list(range(8)), ["0", "1"])], 1, ""),
]


@pytest.mark.parametrize("expected", RECORDS, ids=lambda expected: expected.name)
def test_record_of_a_newer_slurm(expected: Recorded) -> None:
    text = recorded(f"{expected.name}.txt")
    variables = {
        "SLURM_JOB_ID": str(expected.job_id),
        "SLURM_JOB_NAME": "j",
        "SLURM_JOB_NODELIST": expected.hosts,
        "SLURM_JOB_CPUS_PER_NODE": expected.cpus,
    }
    record = job_record.find(text, Event("prolog", START, variables, text, ""))
    assert record is not None
    assert record.unclear == []
    assert (record.nodes, record.exclusive) == (expected.nodes, expected.exclusive)
    assert (record.state, record.walltime, record.qos) == ("CONFIGURING", 0, "")
    assert 0 <= record.start_time - record.submit_time <= 30
    assert (record.sluid[:1], len(record.sluid)) == (("s", 14) if expected.sluid else ("", 0))


@pytest.mark.parametrize(
    ("memory", "megabytes"),
    [
        ("MinMemoryNode=0", 0),
        ("MinMemoryNode=4G", 8192),
        ("MinMemoryNode=1.50G", 3072),
        ("MinMemoryCPU=500M", 2000),
    ],
)
def test_requested_memory(memory: str, megabytes: int) -> None:
    record = find(scontrol_output(7).replace("MinMemoryNode=0", memory), 7)
    assert record is not None
    assert record.memory == megabytes


@pytest.mark.parametrize("name", ["(null)", "hpc", "a b QOS=x"])
def test_qos_stands_behind_the_account(name: str) -> None:
    text = scontrol_output(7).replace("Account=(null) QOS=(null)", f"Account={name} QOS=high")
    variables = {**PROLOG, "SLURM_JOB_ID": "7", "SLURM_JOB_ACCOUNT": name}
    record = job_record.find(text, Event("prolog", START, variables, text, ""))
    assert record is not None
    assert record.qos == "high"


FORGED = (
    "x\n   UserId=root(0) GroupId=root(0) MCS_label=N/A\n   TimeLimit=9-00:00:00 StartTime="
    "1999-01-01T00:00:00 OverSubscribe=NO\n     Nodes=evil CPU_IDs=0-9 Mem=0 GRES=\n\n"
    "JobId=8 JobName=x"
)


@pytest.mark.parametrize("name", [FORGED, "a JobName=b", "x\n   Command=/bin/true", "", " ", "ü\t"])
def test_job_name_cannot_forge_a_record(name: str) -> None:
    record = find(scontrol_output(7, name), 7, name)
    assert record is not None
    assert (record.start_time, record.walltime) == (START, 86_700)
    assert [node.hostname for node in record.nodes] == ["n1", "n2"]
    assert record.exclusive == 0


def test_array_task_is_found_among_its_siblings() -> None:
    tasks = "".join(
        scontrol_output(number).replace(" JobName", f" ArrayJobId=9 ArrayTaskId={number} JobName")
        for number in (7, 8, 9)
    )
    record = find(tasks, 8)
    assert record is not None
    assert record.text.startswith("JobId=8 ArrayJobId=9 ArrayTaskId=8 ")
    assert "\nJobId=9 " not in record.text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30:00", 1800), ("1-12:00:00", 129_600), ("00:05:00", 300), ("UNLIMITED", 0), ("", 0)],
)
def test_time_limit_in_seconds(text: str, seconds: int) -> None:
    assert job_record.parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("f[0009-0011],g1", ["f0009", "f0010", "f0011", "g1"]),
        ("r[1-2]n[08,10]-ib", ["r1n08-ib", "r1n10-ib", "r2n08-ib", "r2n10-ib"]),
        ("", []),
    ],
)
def test_host_list_is_expanded(text: str, hosts: list[str]) -> None:
    assert hostlist.expand(text) == hosts


def test_host_list_of_a_billion_hosts_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 65536"):
        hostlist.expand("n[1-1000000000]")


@pytest.mark.parametrize(
    ("gres", "indices"),
    [
        ("gpu:a100:2(IDX:0-1)", ["0", "1"]),
        ("gpu:1(IDX:3),craynetwork:1", ["3"]),
        ("gpu:h100:1(IDX:0),gpu:a100:2(IDX:1,3)", ["0", "1", "3"]),
        ("gpu:0(IDX:N/A)", []),
        ("", []),
    ],
)
def test_gpu_indices(gres: str, indices: list[str]) -> None:
    assert job_record.gpu_indices(gres) == indices
