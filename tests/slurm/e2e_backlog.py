"""A backlog of 10,000 events, and one of 10,000 hostile ones; neither needs a Slurm."""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

from tests.processes import Service
from tests.slurm import events
from tests.slurm.conftest import Measurements
from tests.slurm.site import Site, list_jobs

_EVENTS = 10_000
_MAX_SENDER_MIB = 100
# The events of others wait no longer for a hostile one.
_MAX_STANDSTILL_SECONDS = 5.0
_FORGED = (
    "     Nodes=n9 CPU_IDs=0-9 Mem=0 GRES=gpu:9(IDX:0-8)",
    "     Nodes=n[1-2] CPU_IDs=0-7 Mem=0 GRES=gpu:2(IDX:0-1)",
    "     Nodes=n[1-300000] CPU_IDs=x Mem=0 GRES=gpu:9(IDX:0-8)",
    "     Nodes=r[1-999]c[1-999]n[1-999] CPU_IDs=0-999999999999",
    "   JobState=FAILED Reason=None Dependency=(null)",
    "   RunTime=00:00:00 TimeLimit=9-00:00:00 TimeMin=N/A",
    "   UserId=root(0) GroupId=root(0) MCS_label=N/A",
    "   NodeList=n[1-300000]",
    "JobId=1 JobName=rotor",
    "   Command=/bin/true",
    "",
)
# The texts of users in Slurm's record, and the values of variables that no Slurm passes on.
_FIELDS = ("Network=(null)", "Features=(null)", "Comment=", "Licenses=(null)", "WorkDir=/home")
_VARIABLES = {
    "SLURM_JOB_NODELIST": ("", "n[1-300000]", "n[5-x]", "[" * 5000, "n9\n", "../../etc"),
    "SLURM_JOB_CPUS_PER_NODE": ("999999999(x999999999)", "x", "", "-1"),
    "SLURM_JOB_NAME": ("JobId=4 JobName=\n" * 50, "\udcff", "x" * 100_000),
    "SLURM_JOB_USER": ("", "(null)", "x" * 300, "root\nUserId=root(0)"),
    "SLURM_JOB_ACCOUNT": ("y" * 100_000, "\x01\x02"),
    "SLURM_ARRAY_JOB_ID": ("-1", "9" * 40, "x"),
    "SLURM_JOB_START_TIME": ("9" * 18, "0", "x"),
}


def hostile_events(site: Site, count: int) -> None:
    """Write hostile starts of the jobs from 1 on, and a good one after every tenth."""
    chance = random.Random(17)
    for number in range(1, count + 1):
        when = events.START + number
        variables = {**events.PROLOG, "SLURM_JOB_ID": str(number)}
        record = events.scontrol_output(number, start=when)
        for _ in range(chance.randint(1, 3)):
            lines = "\n".join(chance.choices(_FORGED, k=chance.randint(1, 8)))
            field = chance.choice(_FIELDS)
            record = record.replace(field, f"{field}x\n{lines}", 1)
        if chance.random() < 0.5:
            name = chance.choice(list(_VARIABLES))
            variables[name] = chance.choice(_VARIABLES[name])
        if number % 500 == 0:
            record += chance.choice(_FORGED) * 50_000
        name = events.write(site, "prolog", when, variables, (record, "#!/bin/sh\n"))
        if chance.random() < 0.05:
            path = site.spool / "new" / name
            path.write_bytes(path.read_bytes()[: chance.randint(0, 2000)])
            os.utime(path, (when, when))
        if number % 10 == 0:
            events.write_start(site, count + number, when + 1)


def standstills(site: Site, process_id: int) -> Iterator[tuple[float, int]]:
    """Yield for how long no event has left the spool, and the sender's memory in KiB."""
    number, since = len(site.names()), time.monotonic()
    while number:
        time.sleep(0.2)
        waiting, now = len(site.names()), time.monotonic()
        yield now - since, peak_memory(process_id)
        if waiting < number:
            number, since = waiting, now


def peak_memory(process_id: int) -> int:
    """Return the largest resident memory that a process ever had, in KiB."""
    status = Path(f"/proc/{process_id}/status").read_text("ascii")
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1])


def test_backlog_of_10000_events(service: Service, site: Site, measurements: Measurements) -> None:
    for number in range(1, _EVENTS // 2 + 1):
        start = events.START + number
        events.write_start(site, number, start)
        events.write_end(site, number, start + 9, START=str(start))
    began = time.monotonic()
    sender = site.run_sender("--once", timeout=600)
    seconds = time.monotonic() - began
    measurements.append(("10,000 spooled events sent in", "10 s", f"{seconds:.1f} s"))
    assert (sender.returncode, site.names("dead")) == (0, [])
    jobs = list_jobs(service, site)
    runs = sorted((job["jobId"], job["startTime"], job["duration"]) for job in jobs)
    assert runs == [(n, events.START + n, 9) for n in range(1, _EVENTS // 2 + 1)]


def test_backlog_of_10000_hostile_events(
    service: Service, site: Site, measurements: Measurements
) -> None:
    hostile_events(site, _EVENTS)
    began = time.monotonic()
    with site.sender() as sender:
        samples = list(standstills(site, sender.pid))
    seconds = time.monotonic() - began
    standstill, memory = (max(column) for column in zip(*samples, strict=True))
    measurements += [
        ("10,000 hostile events handled in", "", f"{seconds:.0f} s"),
        ("longest time in which no event was sent", "5 s", f"{standstill:.1f} s"),
        ("memory of the sender", "100 MiB", f"{memory / 1024:.0f} MiB"),
    ]
    jobs = {job["jobId"]: job for job in list_jobs(service, site)}
    assert jobs.keys() >= set(range(_EVENTS + 10, 2 * _EVENTS + 1, 10))
    assert len(jobs) > _EVENTS // 2
    for job in jobs.values():
        assert {node["hostname"] for node in job["resources"]} <= {"n1", "n2"}
        for node in job["resources"]:
            assert set(node.get("hwthreads", [])) <= {0, 1}
            assert set(node.get("accelerators", [])) <= {"0"}
        assert job["user"] != "root"
    assert memory < _MAX_SENDER_MIB * 1024
    assert standstill < _MAX_STANDSTILL_SECONDS
