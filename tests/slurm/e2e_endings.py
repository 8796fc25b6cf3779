"""Every way for a job to end that this machine can produce, told by the epilog and by jobcomp."""

import contextlib
import itertools
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from ccapi_slurm import record

from ccapi.db.pool import Database
from tests.conftest import empty
from tests.processes import Service
from tests.slurm.bench import BOTH, EPILOG, JOBCOMP, Bench, bench
from tests.slurm.cluster import USER

EVIL = "x\n   UserId=root(0) StartTime=1999-01-01T00:00:00\n\nJobId=1 JobName='\"ü\t"
# What slurmd gives to a job on its first node.
_TELL = "echo $SLURM_JOB_GPUS $SLURM_CPUS_ON_NODE >given; sleep 1"
WAYS = {"epilog": EPILOG, "jobcomp": JOBCOMP, "both": BOTH}


class Run(NamedTuple):
    """A cluster on which everything has ended, and the numbers of the jobs."""

    bench: Bench
    numbers: dict[str, int]


@pytest.fixture(scope="module")
def runs(user: None, running: Service, _migrated: Database) -> Iterator[dict[str, Run]]:
    """Let jobs end in every way on three clusters at once: a requeue takes two minutes."""
    empty(_migrated)
    with contextlib.ExitStack() as stack:
        found = {}
        for way, lines in WAYS.items():
            one = stack.enter_context(bench(way, running, _migrated, lines))
            if way == "both":
                one.configure(CCAPI_SLURM_STATE="")  # asks slurmctld for the jobs' scripts
            stack.enter_context(one.site.sender("slurm"))
            found[way] = Run(one, submit(one))
        for run in found.values():
            finish(run)
        yield found


def submit(one: Bench) -> dict[str, int]:
    """Submit the jobs; n3 and n4 are left to those that lose their node, n1 is shared by two."""
    sbatch, here = one.slurm.sbatch, "--exclude=n[3-4]"
    numbers = {
        "requeue": sbatch(here, script="sleep 5"),
        "timeout": sbatch("-wn1", "-t1", script="sleep 600"),
        "preempted": sbatch("-plow", "-wn4", "--exclusive", script="sleep 600"),
        "node down": sbatch("-wn3", "--no-requeue", script="sleep 600"),
        "cancelled": sbatch(here, script="sleep 600"),
        "pending": sbatch("--hold"),
    }
    scontrol = one.slurm.run
    started = [number for name, number in numbers.items() if name != "pending"]
    one.slurm.wait(
        lambda: {one.slurm.queue().get(number) for number in started} == {"RUNNING"}, 60, "no start"
    )
    scontrol("scontrol", "requeue", str(numbers["requeue"]))
    scontrol("scancel", str(numbers["cancelled"]), str(numbers["pending"]))
    scontrol("scontrol", "update", "NodeName=n3", "State=DOWN", "Reason=test")
    numbers |= {
        "ok": sbatch("-wn1", script="sleep 4"),
        "exit 3": sbatch(here, script="exit 3"),
        "signal": sbatch(here, script="kill -SEGV $$"),
        "preempting": sbatch("-wn4", "--exclusive", script="sleep 1"),
        "whole": sbatch(here, "-pwhole", "-t2:00:00", script="sleep 1"),
        "gpus": sbatch(here, "-N2", "-n4", "--gres=gpu:1", f"-J{EVIL}", script=_TELL),
        "array": sbatch(here, "--array=1-50", "-Jmany", script="true"),
    }
    return numbers


def finish(run: Run) -> None:
    """Run a job without a script, and wait until all have ended."""
    slurm = run.bench.slurm
    slurm.run("srun", "--exclude=n[3-4]", "-Jno-script", "--chdir=/", "true", user=USER)
    run.bench.wait_for_jobs(63, seconds=300)
    # ReturnToService=2: n3 comes back by itself.
    slurm.wait(lambda: slurm.node_states() == {"idle"}, 60, "n3 does not come back")


@pytest.fixture(params=WAYS)
def run(request: pytest.FixtureRequest, runs: dict[str, Run]) -> Run:
    return runs[request.param]


def only(run: Run, name: str) -> dict[str, Any]:
    """Return the one run of a job."""
    [job] = run.bench.lives(run.numbers[name])
    return job


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("ok", "completed"),
        ("exit 3", "failed"),
        ("signal", "failed"),
        ("cancelled", "cancelled"),
        ("timeout", "timeout"),
        ("preempted", "preempted"),
        ("preempting", "completed"),
        ("node down", "failed"),
    ],
)
def test_a_job_has_the_state_and_the_times_of_slurms_record(
    run: Run, name: str, state: str
) -> None:
    job = only(run, name)
    text = run.bench.slurm.run("scontrol", "show", "job", str(job["jobId"]))
    slurms = dict(re.findall(r"(StartTime|EndTime)=(\S+)", text))
    start, end = (record.epoch(slurms[name]) for name in ("StartTime", "EndTime"))
    assert (job["jobState"], job["startTime"]) == (state, start)
    assert abs(job["duration"] - max(1, end - start)) <= 2


def test_a_requeued_job_is_two_jobs(run: Run) -> None:
    first, second = run.bench.lives(run.numbers["requeue"])
    assert (first["jobState"], second["jobState"]) == ("stopped", "completed")
    assert first["startTime"] + 60 < second["startTime"]
    assert first["duration"] < 60
    assert 5 <= second["duration"] <= 9


def test_slurms_own_list_of_all_lives_agrees(runs: dict[str, Run]) -> None:
    """jobcomp/filetxt, beside the hooks of the epilog, wrote when each life began and ended."""
    bench = runs["epilog"].bench
    text = (bench.slurm.directory / "ended").read_text("utf-8")
    # At the beginning of a line: records of tasks have an ArrayJobId, too.
    pattern = r"^JobId=(\d+) .*?StartTime=(\S+) EndTime=(\S+) .*?NodeCnt=(\d+)"
    lives = {
        (int(number), record.epoch(start)): record.epoch(end) - record.epoch(start)
        for number, start, end, nodes in re.findall(pattern, text, re.S | re.M)
        if nodes != "0"
    }
    ours = {(job["jobId"], job["startTime"]): job["duration"] for job in bench.jobs()}
    assert ours.keys() == lives.keys()
    assert [key for key in ours if abs(ours[key] - max(1, lives[key])) > 2] == []


def test_a_job_that_was_cancelled_while_pending_is_none(run: Run) -> None:
    assert run.bench.lives(run.numbers["pending"]) == []


def test_an_array_of_50_tasks_is_50_jobs(run: Run) -> None:
    number = run.numbers["array"]
    tasks = [job for job in run.bench.jobs() if job.get("arrayJobId") == number]
    assert len({task["jobId"] for task in tasks}) == len(tasks) == 50
    assert {task["metaData"]["jobName"] for task in tasks} == {"many"}
    assert {task["metaData"]["jobScript"] for task in tasks} == {"#!/bin/sh\ntrue\n"}


def test_nodes_hwthreads_and_gpus_are_slurms_own(run: Run) -> None:
    job = only(run, "gpus")
    info = job["metaData"]["slurmInfo"]
    found = record.find(info, job["jobId"], EVIL)
    assert found is not None
    assert [host["hostname"] for host in job["resources"]] == ["n1", "n2"]
    assert [(n.hostname, n.hwthreads, n.accelerators) for n in found.nodes] == [
        (host["hostname"], host["hwthreads"], host["accelerators"]) for host in job["resources"]
    ]
    assert (job["numNodes"], job["numHwthreads"], job["numAcc"]) == (2, 4, 2)
    assert {len(host["hwthreads"]) for host in job["resources"]} == {2}


def test_the_job_itself_saw_these_gpus_and_so_many_hwthreads(run: Run) -> None:
    told = (run.bench.slurm.work / "given").read_text("ascii").split()
    first = only(run, "gpus")["resources"][0]
    assert told == [",".join(first["accelerators"]), str(len(first["hwthreads"]))]


def test_jobs_that_share_a_node_have_hwthreads_of_their_own(run: Run) -> None:
    jobs = run.bench.jobs()
    shared = 0
    for one, other in itertools.combinations(jobs, 2):
        begin = max(one["startTime"], other["startTime"])
        end = min(job["startTime"] + job["duration"] for job in (one, other))
        if end - begin >= 2:
            shared += len(hosts(one) & hosts(other))
            assert not hwthreads(one) & hwthreads(other), (one, other)
    assert shared


def hosts(job: dict[str, Any]) -> set[str]:
    return {host["hostname"] for host in job["resources"]}


def hwthreads(job: dict[str, Any]) -> set[tuple[str, int]]:
    return {(host["hostname"], number) for host in job["resources"] for number in host["hwthreads"]}


def test_a_name_of_several_lines_is_a_name(run: Run) -> None:
    job = only(run, "gpus")
    assert (job["user"], job["metaData"]["jobName"]) == (USER, EVIL)


def test_partition_limit_and_exclusive_nodes_are_told(run: Run) -> None:
    whole, shared = only(run, "whole"), only(run, "ok")
    assert (whole["partition"], whole["walltime"], whole["exclusive"]) == ("whole", 7200, 1)
    assert (whole["numHwthreads"], whole["project"]) == (8, "")
    assert (shared["partition"], shared["exclusive"], "walltime" in shared) == ("main", 0, False)


def test_a_job_without_a_script_is_registered(run: Run) -> None:
    [job] = [job for job in run.bench.jobs() if job["metaData"].get("jobName") == "no-script"]
    assert job["jobState"] == "completed"
    assert "jobScript" not in job["metaData"]


def test_slurm_is_unharmed(run: Run) -> None:
    assert run.bench.slurm.node_states() == {"idle"}
    assert run.bench.site.names("dead") == []
    assert re.findall(r"prolog.*(?:fail|non-?zero|error)", run.bench.slurm.log(), re.I) == []
