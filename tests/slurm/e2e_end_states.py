"""Every end state that one machine can produce, reported by the epilog and by jobcomp."""

import contextlib
import itertools
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from ccapi_slurm import job_record
from ccapi_slurm.event import Event

from ccapi.db.pool import Database
from tests.conftest import empty
from tests.processes import Service
from tests.slurm.cluster import USER
from tests.slurm.connected_slurm import (
    BOTH,
    EPILOG,
    JOBCOMP,
    ConnectedSlurm,
    connected_slurm,
)

EVIL = "x\n   UserId=root(0) StartTime=1999-01-01T00:00:00\n\nJobId=1 JobName='\"ü\t"
# A job that writes down what slurmd allocated on its first node.
_WRITE_ALLOCATION = "echo $SLURM_JOB_GPUS $SLURM_CPUS_ON_NODE >allocation; sleep 1"
_SHRINK = "sleep 2; scontrol update JobId=$SLURM_JOB_ID NumNodes=1; sleep 5"
HOOKS = {"epilog": EPILOG, "jobcomp": JOBCOMP, "both": BOTH}


class Scenario(NamedTuple):
    """A cluster whose jobs have ended, and the ids of the jobs."""

    connected: ConnectedSlurm
    job_ids: dict[str, int]


@pytest.fixture(scope="module")
def scenarios(user: None, running: Service, _migrated: Database) -> Iterator[dict[str, Scenario]]:
    """Run all jobs on three clusters at once, because a requeue takes two minutes."""
    empty(_migrated)
    with contextlib.ExitStack() as stack:
        scenarios = {}
        for hooks, lines in HOOKS.items():
            connected = stack.enter_context(connected_slurm(hooks, running, _migrated, lines))
            if hooks == "both":
                connected.configure(CCAPI_SLURM_STATE="")  # scripts come from scontrol
            stack.enter_context(connected.site.sender("slurm"))
            scenarios[hooks] = Scenario(connected, submit(connected))
        for scenario in scenarios.values():
            finish(scenario)
        yield scenarios


def submit(connected: ConnectedSlurm) -> dict[str, int]:
    """Submit the jobs: on n3 and n4 those that lose their node, on n1 two that share it."""
    sbatch, here = connected.slurm.sbatch, "--exclude=n[3-4]"
    job_ids = {
        "requeue": sbatch(here, script="sleep 5"),
        "timeout": sbatch("-wn1", "-t1", script="sleep 600"),
        "preempted": sbatch("-plow", "-wn4", "--exclusive", script="sleep 600"),
        "node down": sbatch("-wn3", "--no-requeue", script="sleep 600"),
        "cancelled": sbatch(here, script="sleep 600"),
        "pending": sbatch("--hold"),
    }
    run = connected.slurm.run
    started = [job_id for name, job_id in job_ids.items() if name != "pending"]
    connected.slurm.wait(
        lambda: {connected.slurm.queue().get(job_id) for job_id in started} == {"RUNNING"},
        60,
        "no start",
    )
    run("scontrol", "requeue", str(job_ids["requeue"]))
    run("scancel", str(job_ids["cancelled"]), str(job_ids["pending"]))
    run("scontrol", "update", "NodeName=n3", "State=DOWN", "Reason=test")
    job_ids |= {
        "ok": sbatch("-wn1", script="sleep 4"),
        "exit 3": sbatch(here, script="exit 3"),
        "signal": sbatch(here, script="kill -SEGV $$"),
        "preempting": sbatch("-wn4", "--exclusive", script="sleep 1"),
        "whole": sbatch(here, "-pwhole", "-t2:00:00", script="sleep 1"),
        "gpus": sbatch(here, "-N2", "-n4", "--gres=gpu:1", f"-J{EVIL}", script=_WRITE_ALLOCATION),
        "resized": sbatch(here, "-N2", script=_SHRINK),
        "het": sbatch(here, "-n1", ":", "-n1", script="sleep 1"),
        "array": sbatch(here, "--array=1-50", "-Jmany", script="true"),
    }
    return job_ids


def finish(scenario: Scenario) -> None:
    """Run a job without a script, and wait until all jobs have ended."""
    slurm = scenario.connected.slurm
    slurm.run("srun", "--exclude=n[3-4]", "-Jno-script", "--chdir=/", "true", user=USER)
    scenario.connected.wait_for_jobs(66, seconds=300)
    # With ReturnToService=2, n3 comes back by itself.
    slurm.wait(lambda: slurm.node_states() == {"idle"}, 60, "n3 does not come back")


@pytest.fixture(params=HOOKS)
def scenario(request: pytest.FixtureRequest, scenarios: dict[str, Scenario]) -> Scenario:
    return scenarios[request.param]


def only_run(scenario: Scenario, name: str) -> dict[str, Any]:
    """Return the only run of a job."""
    [job] = scenario.connected.runs(scenario.job_ids[name])
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
        ("node down", "node_fail"),
    ],
)
def test_state_and_times_equal_slurms_record(scenario: Scenario, name: str, state: str) -> None:
    job = only_run(scenario, name)
    text = scenario.connected.slurm.run("scontrol", "show", "job", str(job["jobId"]))
    fields = dict(re.findall(r"(StartTime|EndTime)=(\S+)", text))
    start, end = (job_record.parse_time(fields[name]) for name in ("StartTime", "EndTime"))
    assert (job["jobState"], job["startTime"]) == (state, start)
    assert abs(job["duration"] - max(1, end - start)) <= 2


def test_requeued_job_is_two_jobs(scenario: Scenario) -> None:
    first, second = scenario.connected.runs(scenario.job_ids["requeue"])
    assert (first["jobState"], second["jobState"]) == ("stopped", "completed")
    assert first["startTime"] + 60 < second["startTime"]
    assert first["duration"] < 60
    assert 5 <= second["duration"] <= 9


def test_job_that_loses_a_node_runs_on(scenario: Scenario) -> None:
    job = only_run(scenario, "resized")
    assert (job["jobState"], job["numNodes"]) == ("completed", 1)
    assert job["duration"] >= 7
    text = scenario.connected.slurm.run("scontrol", "show", "job", str(job["jobId"]))
    assert re.findall(r"^   NodeList=(\S+)", text, re.M) == [job["resources"][0]["hostname"]]
    [entry] = json.loads(job["metaData"]["nodeHistory"])
    assert (len(entry["hosts"]), entry["hosts"][0]) == (2, job["resources"][0]["hostname"])
    if scenario.connected.slurm.name != "epilog":
        assert 1 <= entry["until"] - job["startTime"] <= 5
        assert (job["numHwthreads"], len(job["resources"][0]["hwthreads"])) == (2, 2)


def test_parts_of_a_het_job_are_two_jobs(scenario: Scenario) -> None:
    leader = scenario.job_ids["het"]
    parts = [job for number in (leader, leader + 1) for job in scenario.connected.runs(number)]
    assert [job["metaData"]["hetJobOffset"] for job in parts] == ["0", "1"]
    assert {job["metaData"]["hetJobId"] for job in parts} == {str(leader)}
    assert [job["numHwthreads"] for job in parts] == [2, 2]


def test_every_record_is_clear(scenario: Scenario) -> None:
    counters = json.loads((scenario.connected.site.spool / "counters").read_text("ascii"))
    assert (counters["missing_records"], counters["unclear_records"]) == (0, 0)
    assert (counters["unknown_states"], counters["reduced_starts"]) == (0, 0)


def test_runs_equal_those_of_jobcomp_filetxt(scenarios: dict[str, Scenario]) -> None:
    """jobcomp/filetxt runs beside the epilog and writes the start and the end of each run."""
    connected = scenarios["epilog"].connected
    text = (connected.slurm.directory / "ended").read_text("utf-8")
    # Anchored, because records of array tasks have an ArrayJobId as well.
    pattern = r"^JobId=(\d+) .*?StartTime=(\S+) EndTime=(\S+) .*?NodeCnt=(\d+)"
    slurm_runs = {
        (int(number), job_record.parse_time(start)): job_record.parse_time(end)
        - job_record.parse_time(start)
        for number, start, end, nodes in re.findall(pattern, text, re.S | re.M)
        if nodes != "0"
    }
    runs = {(job["jobId"], job["startTime"]): job["duration"] for job in connected.jobs()}
    # Slurm reports a resized job twice, the second time with the time of the resize as the start.
    resized = scenarios["epilog"].job_ids["resized"]
    slurm_runs = {run: seconds for run, seconds in slurm_runs.items() if run[0] != resized}
    runs = {run: seconds for run, seconds in runs.items() if run[0] != resized}
    assert runs.keys() == slurm_runs.keys()
    assert [key for key in runs if abs(runs[key] - max(1, slurm_runs[key])) > 2] == []


def test_job_cancelled_while_pending_is_not_registered(scenario: Scenario) -> None:
    assert scenario.connected.runs(scenario.job_ids["pending"]) == []


def test_array_of_50_tasks_is_50_jobs(scenario: Scenario) -> None:
    array_id = scenario.job_ids["array"]
    tasks = [job for job in scenario.connected.jobs() if job.get("arrayJobId") == array_id]
    assert len({task["jobId"] for task in tasks}) == len(tasks) == 50
    assert {task["metaData"]["jobName"] for task in tasks} == {"many"}
    assert {task["metaData"]["jobScript"] for task in tasks} == {"#!/bin/sh\ntrue\n"}


def test_nodes_hwthreads_and_gpus_equal_slurms_record(scenario: Scenario) -> None:
    job = only_run(scenario, "gpus")
    info = job["metaData"]["slurmInfo"]
    variables = {
        "SLURM_JOB_ID": str(job["jobId"]),
        "SLURM_JOB_NAME": EVIL,
        "SLURM_JOB_NODELIST": "n[1-2]",
        "SLURM_JOB_CPUS_PER_NODE": "2(x2)",
    }
    record = job_record.find(info, Event("prolog", 0, variables, info, ""))
    assert record is not None
    assert [host["hostname"] for host in job["resources"]] == ["n1", "n2"]
    assert [(n.hostname, n.hwthreads, n.accelerators) for n in record.nodes] == [
        (host["hostname"], host["hwthreads"], host["accelerators"]) for host in job["resources"]
    ]
    assert (job["numNodes"], job["numHwthreads"], job["numAcc"]) == (2, 4, 2)
    assert {len(host["hwthreads"]) for host in job["resources"]} == {2}


def test_gpus_and_hwthreads_equal_the_jobs_environment(scenario: Scenario) -> None:
    allocation = (scenario.connected.slurm.work / "allocation").read_text("ascii").split()
    first = only_run(scenario, "gpus")["resources"][0]
    assert allocation == [",".join(first["accelerators"]), str(len(first["hwthreads"]))]


def test_jobs_on_a_shared_node_have_separate_hwthreads(scenario: Scenario) -> None:
    jobs = scenario.connected.jobs()
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
    # With an epilog, ccapi gets the last hosts of a resized job without their threads.
    return {
        (host["hostname"], number)
        for host in job["resources"]
        for number in host.get("hwthreads", [])
    }


def test_job_name_of_several_lines(scenario: Scenario) -> None:
    job = only_run(scenario, "gpus")
    assert (job["user"], job["metaData"]["jobName"]) == (USER, EVIL)


def test_partition_walltime_and_exclusive(scenario: Scenario) -> None:
    whole, shared = only_run(scenario, "whole"), only_run(scenario, "ok")
    assert (whole["partition"], whole["walltime"], whole["exclusive"]) == ("whole", 7200, 1)
    assert (whole["numHwthreads"], whole["project"]) == (8, "")
    assert (shared["partition"], shared["exclusive"], "walltime" in shared) == ("main", 0, False)


def test_job_without_a_script_is_registered(scenario: Scenario) -> None:
    [job] = [
        job for job in scenario.connected.jobs() if job["metaData"].get("jobName") == "no-script"
    ]
    assert job["jobState"] == "completed"
    assert "jobScript" not in job["metaData"]


def test_slurm_is_healthy(scenario: Scenario) -> None:
    assert scenario.connected.slurm.node_states() == {"idle"}
    assert scenario.connected.site.names("dead") == []
    assert (
        re.findall(r"prolog.*(?:fail|non-?zero|error)", scenario.connected.slurm.log(), re.I) == []
    )
