"""Text of users in every field that they can write: nothing of it is taken for Slurm's."""

import json
import time
import tracemalloc
from collections.abc import Callable

import pytest
from ccapi_slurm import job_record, request_body
from ccapi_slurm.event import Event
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.slurm.events import PROLOG, START, in_24_11, in_25_05, scontrol_output

pytestmark = pytest.mark.slow

# Where the text of a field stands in Slurm's record; docs/design.rst lists the same fields.
FIELDS: dict[str, tuple[str, str]] = {
    "JobName": ("JobName=rotor", "JobName=@"),
    "MCS_label": ("MCS_label=N/A", "MCS_label=@"),
    "Account": ("Account=(null)", "Account=@"),
    "WCKey": ("QOS=(null)", "QOS=(null) WCKey=@"),
    "AllocNode": ("AllocNode:Sid=localhost:", "AllocNode:Sid=@:"),
    "Features": ("Features=(null)", "Features=@"),
    "ClusterFeatures": ("   OverSubscribe=", "   ClusterFeatures=@\n   OverSubscribe="),
    "Licenses": ("Licenses=(null)", "Licenses=@"),
    "Network": ("Network=(null)", "Network=@"),
    "Command": ("Command=/home/alice/job.sh", "Command=@"),
    "WorkDir": ("WorkDir=/home/alice", "WorkDir=@"),
    "Comment": ("   StdErr=", "   Comment=@\n   StdErr="),
    "StdErr": ("StdErr=/dev/null", "StdErr=@"),
    "StdIn": ("StdIn=/dev/null", "StdIn=@"),
    "StdOut": ("StdOut=/dev/null", "StdOut=@"),
    "BurstBuffer": ("   StdErr=", "   BurstBuffer=@\n   StdErr="),
    "Container": ("   TresPerNode=", "   Container=@\n   TresPerNode="),
    "MailUser": ("   TresPerNode=", "   MailUser=@ MailType=NONE\n   TresPerNode="),
    "Extra": ("   StdErr=", "   Extra=@\n   StdErr="),
}
VARIABLES = {"JobName": "SLURM_JOB_NAME", "Account": "SLURM_JOB_ACCOUNT"}

_HOSTS = st.sampled_from(
    ["n1", "n2", "n[1-2]", "n9", "n[1-300000]", "n[1-999999999999]", "[[[[", "(null)", "n1,n1"]
)
_CPUS = st.sampled_from(["0-1", "0", "0-9", "x", "", "0-99999999999", "9" * 5000, "-", "1-0"])
_GRES = st.sampled_from(
    ["", "gpu:9(IDX:0-8)", "gpu:1(IDX:7)", "gpu:1(IDX:0-999999999)", "gpu:" * 9]
)
_NODES = st.builds("     Nodes={} CPU_IDs={} Mem=0 GRES={}".format, _HOSTS, _CPUS, _GRES)
_LINES = st.one_of(
    _NODES,
    _NODES,
    st.sampled_from(
        [
            "",
            "   UserId=root(0) GroupId=root(0) MCS_label=N/A",
            "   JobState=FAILED Reason=None Dependency=(null)",
            "   RunTime=00:00:00 TimeLimit=9-00:00:00 TimeMin=N/A",
            "   StartTime=1999-01-01T00:00:00 EndTime=1999-01-02T00:00:00 Deadline=N/A",
            "   OverSubscribe=NO Contiguous=0 Licenses=(null) Network=(null)",
            "   NodeList=n[1-300000]",
            "   Command=/bin/true",
            "JobId=7 JobName=rotor",
            "JobId=8 JobName=other",
            "\udcff\udcfe",
        ]
    ),
    st.text(max_size=20),
)
_TEXTS = st.lists(_LINES, min_size=1, max_size=6).map(lambda lines: "x\n" + "\n".join(lines))


def start(field: str, text: str, convert: Callable[[str], str] = str) -> Event:
    """Return a prolog's event of a job whose user wrote a text into a field."""
    before, after = FIELDS[field]
    record = convert(scontrol_output(7))
    assert before in record
    variables = {**PROLOG, "SLURM_JOB_ID": "7"}
    if field in VARIABLES:
        variables[VARIABLES[field]] = text
    record = record.replace(before, after.replace("@", text), 1)
    return Event("prolog", START + 1.0, variables, record, "")


@pytest.mark.parametrize("convert", [str, in_24_11, in_25_05], ids=["22.05", "24.11", "25.05"])
@pytest.mark.parametrize("field", FIELDS)
@settings(deadline=2000, max_examples=30)
@given(text=_TEXTS)
def test_text_of_users_adds_no_nodes_threads_or_gpus(
    field: str, convert: Callable[[str], str], text: str
) -> None:
    event = start(field, text, convert)
    record = job_record.find(event.record, event)
    body = request_body.start_job(event, "fritz", record, request_body.start_time(event, record))
    assert (body["jobId"], body["user"], body["numNodes"]) == (7, "alice", 2)
    assert [node["hostname"] for node in body["resources"]] == ["n1", "n2"]
    for node in body["resources"]:
        assert node.get("hwthreads", [0, 1]) == [0, 1]
        assert node.get("accelerators", ["0"]) == ["0"]
    # A value that the text contradicts is left out: the event's time replaces the start time.
    assert body["startTime"] in {START, START + 1}
    assert body.get("walltime") in {86_700, None}
    assert body.get("exclusive") in {0, None}
    json.dumps(body)


@pytest.mark.parametrize("field", FIELDS)
def test_whole_forged_record_is_not_believed(field: str) -> None:
    """The text knows the job's id and hosts, and hides Slurm's own lines behind a new record."""
    forged = scontrol_output(7).replace("CPU_IDs=0-1", "CPU_IDs=2-3").replace("IDX:0", "IDX:1")
    forged = forged.replace("1-00:05:00", "9-00:00:00").partition("JobName=rotor")[2]
    event = start(field, f"x{forged}\n\nJobId=8 JobName=x")
    record = job_record.find(event.record, event)
    assert record is not None
    if field == "JobName":
        # The environment has the whole name.
        assert (record.walltime, len(record.nodes)) == (86_700, 2)
    else:
        assert (record.walltime, record.nodes) == (0, [])
        assert {"TimeLimit", "Nodes"} <= set(record.unclear)


@pytest.mark.parametrize("field", FIELDS)
def test_harmless_text_costs_no_field(field: str) -> None:
    event = start(field, "two\nlines JobState=FAILED TimeLimit=1 Nodes=n9 CPU_IDs=3 \t=")
    record = job_record.find(event.record, event)
    assert record is not None
    assert (record.start_time, record.walltime, record.exclusive) == (START, 86_700, 0)
    assert [(node.hostname, node.hwthreads) for node in record.nodes] == [
        ("n1", [0, 1]),
        ("n2", [0, 1]),
    ]
    assert record.unclear == []


@pytest.mark.parametrize(
    "text",
    [
        "x\n     Nodes=n[1-300000] CPU_IDs=0-9 GRES=gpu:9(IDX:0-8)",
        "x\n     Nodes=r[1-999]c[1-999]n[1-999] CPU_IDs=0-9",
        "\n     Nodes=n[1-2] CPU_IDs=" + "0-15," * 100_000,
        "\n     Nodes=" + "[" * 1_000_000 + " CPU_IDs=0",
        "\n     Nodes=" + "[1" * 500_000 + " CPU_IDs=0",
        "\n     Nodes=n1 CPU_IDs=0 GRES=" + "gpu:" * 250_000,
        "\n     Nodes=n1 CPU_IDs=0\n" * 40_000,
        "".join(f"\n     Nodes=n[1-2] CPU_IDs=0-1,{n}\n" for n in range(40_000)),
        "\n" * 1_000_000,
    ],
    ids=range(9),
)
def test_long_text_costs_little_time_and_memory(text: str) -> None:
    event = start("Network", text)
    tracemalloc.start()
    try:
        began = time.process_time()
        record = job_record.find(event.record, event)
        seconds = time.process_time() - began
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert record is not None
    assert seconds < 2
    assert peak < 30e6
