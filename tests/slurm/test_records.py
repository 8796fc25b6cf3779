"""What Slurm prints is read for what it is, whatever users wrote into it."""

from collections.abc import Callable

import pytest
from ccapi_slurm import hostlist, record
from ccapi_slurm.record import Node

from tests.slurm.events import START, in_24_11, in_25_05
from tests.slurm.events import record as text_of


@pytest.mark.parametrize(
    "printed", [str, in_24_11, in_25_05], ids=["Slurm 22.05", "Slurm 24.11", "Slurm 25.05"]
)
def test_a_record_tells_times_limit_nodes_hwthreads_and_gpus(
    printed: Callable[[str], str],
) -> None:
    found = record.find(printed(text_of(7)), 7, "rotor")
    assert found is not None
    assert (found.state, found.start_time, found.walltime) == ("CONFIGURING", START, 86_700)
    assert found.nodes == [Node("n1", [0, 1], ["0"]), Node("n2", [0, 1], ["0"])]
    assert found.exclusive == 0


FORGED = (
    "x\n   UserId=root(0) GroupId=root(0) MCS_label=N/A\n   TimeLimit=9-00:00:00 StartTime="
    "1999-01-01T00:00:00 OverSubscribe=NO\n     Nodes=evil CPU_IDs=0-9 Mem=0 GRES=\n\n"
    "JobId=8 JobName=x"
)


@pytest.mark.parametrize("name", [FORGED, "a JobName=b", "x\n   Command=/bin/true", "", " ", "ü\t"])
def test_a_jobs_name_cannot_forge_its_record(name: str) -> None:
    found = record.find(text_of(7, name), 7, name)
    assert found is not None
    assert (found.start_time, found.walltime) == (START, 86_700)
    assert [node.hostname for node in found.nodes] == ["n1", "n2"]
    assert found.exclusive == 0


def test_a_task_is_found_among_the_tasks_of_its_array() -> None:
    tasks = "".join(
        text_of(number).replace(" JobName", f" ArrayJobId=9 ArrayTaskId={number} JobName")
        for number in (7, 8, 9)
    )
    found = record.find(tasks.replace("Restarts=0", "Restarts=3"), 8, "rotor")
    assert found is not None
    assert found.restarts == 3
    assert found.text.startswith("JobId=8 ")
    assert "\nJobId=9 " not in found.text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30:00", 1800), ("1-12:00:00", 129_600), ("00:05:00", 300), ("UNLIMITED", 0), ("", 0)],
)
def test_limits_are_seconds(text: str, seconds: int) -> None:
    assert record.seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("f[0009-0011],g1", ["f0009", "f0010", "f0011", "g1"]),
        ("r[1-2]n[08,10]-ib", ["r1n08-ib", "r1n10-ib", "r2n08-ib", "r2n10-ib"]),
        ("", []),
    ],
)
def test_host_lists_are_expanded(text: str, hosts: list[str]) -> None:
    assert hostlist.expand(text) == hosts


def test_a_host_list_of_a_billion_is_refused() -> None:
    with pytest.raises(ValueError, match="too many"):
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
def test_gpus_are_indices(gres: str, indices: list[str]) -> None:
    assert record.gpus(gres) == indices
