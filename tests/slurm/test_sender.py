"""The sender with a real service: every event arrives in order and once."""

import json
import os
import pwd
import random
import time
from typing import Any

import pytest

from tests.processes import Service
from tests.slurm import events
from tests.slurm.cluster import wait_until
from tests.slurm.events import EPILOG, START
from tests.slurm.site import Site, list_jobs

pytestmark = pytest.mark.slow


def send(site: Site) -> None:
    """Send all waiting events."""
    sender = site.run_sender("--once")
    assert (sender.returncode, site.names()) == (0, []), sender.stderr


def test_start_has_all_fields(service: Service, site: Site) -> None:
    events.write_start(site, 4, SLURM_JOB_ACCOUNT="hpc")
    send(site)
    [job] = list_jobs(service, site)
    assert job.pop("metaData") == {
        "jobName": "rotor",
        "jobScript": "#!/bin/sh\nsrun ./rotor\n",
        "slurmInfo": events.scontrol_output(4).rstrip("\n") + "\n",
    }
    del job["id"], job["duration"]
    assert job == {
        "jobId": 4,
        "user": "alice",
        "project": "hpc",
        "cluster": "fritz",
        "subCluster": "",
        "partition": "main",
        "arrayJobId": 3,
        "numNodes": 2,
        "numHwthreads": 4,
        "numAcc": 2,
        "exclusive": 0,
        "shared": "multi_user",
        "monitoringStatus": 1,
        "jobState": "running",
        "walltime": 86_700,
        "startTime": START,
        "submitTime": START - 2,
        "resources": [
            {"hostname": "n1", "hwthreads": [0, 1], "accelerators": ["0"]},
            {"hostname": "n2", "hwthreads": [0, 1], "accelerators": ["0"]},
        ],
        "tags": [],
    }


def test_values_without_a_field_are_metadata(service: Service, site: Site) -> None:
    variables = {
        "SLURM_HET_JOB_ID": "4",
        "SLURM_HET_JOB_OFFSET": "0",
        "SLURM_JOB_SLUID": "s6XDM8FX8G9900",
        "SLURM_JOB_OVERSUBSCRIBE": "NO",
        "SLURM_JOB_EXCLUSIVE": "USER",
    }
    events.write_start(site, 4, START, **variables)
    send(site)
    [job] = list_jobs(service, site)
    assert job["exclusive"] == 2
    expected = {"hetJobId": "4", "hetJobOffset": "0", "sluid": "s6XDM8FX8G9900"}
    assert expected.items() <= job["metaData"].items()


@pytest.mark.parametrize(
    ("variables", "user"),
    [
        ({"SLURM_JOB_USER": "nobody", "SLURM_JOB_UID": "54321"}, "uid:54321"),
        ({"SLURM_JOB_USER": "(null)", "SLURM_JOB_UID": "54321"}, "uid:54321"),
        ({"SLURM_JOB_USER": "54321", "SLURM_JOB_UID": "54321"}, "uid:54321"),
        (
            {"SLURM_JOB_USER": "nobody", "SLURM_JOB_UID": str(pwd.getpwnam("nobody").pw_uid)},
            "nobody",
        ),
    ],
)
def test_user_without_a_name_has_a_number(
    service: Service, site: Site, variables: dict[str, str], user: str
) -> None:
    events.write_start(site, 4, START, **variables)
    events.write_end(site, 5, USERNAME="", UID="54321")
    send(site)
    assert [job["user"] for job in list_jobs(service, site)] == [user, "uid:54321"]


def test_missing_and_unclear_records_are_counted(service: Service, site: Site) -> None:
    bare = {**events.PROLOG, "SLURM_JOB_ID": "5"}
    events.write(site, "prolog", START, bare)
    unclear = events.scontrol_output(6).replace("TimeLimit", "Limit")
    events.write(site, "prolog", START, {**bare, "SLURM_JOB_ID": "6"}, (unclear, ""))
    events.write_start(site, 7)
    send(site)
    values = counters(site)
    assert (values["missing_records"], values["unclear_records"]) == (1, 1)


def test_two_runs_of_a_requeued_job_are_two_jobs(service: Service, site: Site) -> None:
    events.write_start(site, 4)
    events.write(site, "epilog", START + 60.1, {**EPILOG, "SLURM_JOB_ID": "4"})
    events.write_end(site, 4, START + 60, JOBSTATE="PENDING")
    events.write_start(site, 4, START + 180, SLURM_JOB_RESTART_COUNT="1")
    events.write_end(site, 4, START + 200, START=str(START + 180))
    send(site)
    runs = [
        (job["startTime"], job["duration"], job["jobState"]) for job in list_jobs(service, site)
    ]
    assert runs == [(START, 60, "stopped"), (START + 180, 20, "completed")]


def test_resized_job_runs_until_its_end(service: Service, site: Site) -> None:
    """Slurm does not know the job any more; the events still have the hosts of each part."""
    events.write_start(site, 4)
    # jobcomp runs before the change, with the hosts until then.
    events.write_end(site, 4, START + 20, JOBSTATE="RESIZING")
    send(site)
    [job] = list_jobs(service, site)
    assert (job["jobState"], hosts(job)) == ("running", ["n1", "n2"])
    # From then on, START is the time of the last change.
    second = {"START": str(START + 20), "NODES": "n[2-3]", "PROCS": "6"}
    events.write_end(site, 4, START + 30, JOBSTATE="RESIZING", **second)
    third = {"START": str(START + 30), "NODES": "n3", "PROCS": "3"}
    events.write_end(site, 4, START + 60, **third)
    send(site)
    [job] = list_jobs(service, site)
    assert (job["startTime"], job["duration"], hosts(job)) == (START, 60, ["n3"])
    assert (job["numNodes"], job["numHwthreads"], job.get("numAcc")) == (1, 3, None)
    assert json.loads(job["metaData"]["nodeHistory"]) == [
        {"until": START + 20, "hosts": ["n1", "n2"]},
        {"until": START + 30, "hosts": ["n2", "n3"]},
    ]
    assert counters(site)["resizes"] == 2


def test_epilog_has_the_last_hosts(service: Service, site: Site) -> None:
    events.write_start(site, 4)
    last = {"SLURM_JOB_NODELIST": "n1", "SLURM_JOB_CPUS_PER_NODE": "2"}
    events.write(site, "epilog", START + 60.1, {**EPILOG, **last})
    send(site)
    [job] = list_jobs(service, site)
    assert (job["duration"], hosts(job)) == (60, ["n1"])
    history = json.loads(job["metaData"]["nodeHistory"])
    assert history == [{"until": START + 60, "hosts": ["n1", "n2"]}]


def test_hosts_that_ccapi_refuses_do_not_hold_back_the_end(service: Service, site: Site) -> None:
    events.write_start(site, 4)
    events.write_end(site, 4, START + 60, NODES="None assigned")
    send(site)
    [job] = list_jobs(service, site)
    assert (job["jobState"], hosts(job)) == ("completed", ["n1", "n2"])


def hosts(job: dict[str, Any]) -> list[str]:
    """Return the names of a job's hosts."""
    return [node["hostname"] for node in job["resources"]]


def counters(site: Site) -> dict[str, int]:
    """Return the counters of the sender."""
    values: dict[str, int] = json.loads((site.spool / "counters").read_text("ascii"))
    return values


@pytest.mark.parametrize(
    ("record_state", "state"),
    [("JobState=TIMEOUT", "timeout"), ("", "failed")],
    ids=["slurmctld", "exit code"],
)
def test_unknown_end_state_is_resolved_by_slurm(
    service: Service, site: Site, record_state: str, state: str
) -> None:
    commands = site.directory / "commands"
    commands.mkdir()
    if record_state:
        record = events.scontrol_output(4).replace("JobState=CONFIGURING", record_state)
        (commands / "record").write_text(record.replace("Unknown", "2026-01-21T06:52:19"), "utf-8")
        script = f"#!/bin/sh\ncat {commands}/record\n"
    else:
        script = "#!/bin/sh\necho Invalid job id specified >&2\nexit 1\n"
    (commands / "scontrol").write_text(script, "utf-8")
    (commands / "scontrol").chmod(0o755)
    site.configure(CCAPI_URL=service.url, PATH=f"{commands}:/usr/bin:/bin")
    events.write_start(site, 4)
    events.write_end(site, 4, JOBSTATE="FROZEN", EXITCODE="3:0")
    send(site)
    assert [job["jobState"] for job in list_jobs(service, site)] == [state]
    assert counters(site)["unknown_states"] == 1
    assert counters(site)["guessed_ends"] == (not record_state)


def test_job_that_still_runs_is_not_ended_by_an_unknown_state(service: Service, site: Site) -> None:
    commands = site.directory / "commands"
    commands.mkdir()
    record = events.scontrol_output(4).replace("JobState=CONFIGURING", "JobState=RUNNING")
    (commands / "record").write_text(record, "utf-8")
    (commands / "scontrol").write_text(f"#!/bin/sh\ncat {commands}/record\n", "utf-8")
    (commands / "scontrol").chmod(0o755)
    site.configure(CCAPI_URL=service.url, PATH=f"{commands}:/usr/bin:/bin")
    events.write_start(site, 4)
    events.write_end(site, 4, JOBSTATE="FROZEN")
    send(site)
    assert [job["jobState"] for job in list_jobs(service, site)] == ["running"]


def test_job_that_never_ran_is_not_registered(service: Service, site: Site) -> None:
    events.write_end(site, 4, JOBSTATE="CANCELLED", NODES="", NODECNT="0", START=str(START + 60))
    send(site)
    assert list_jobs(service, site) == []


def test_lost_start_is_reconstructed_from_the_end(service: Service, site: Site) -> None:
    events.write_end(site, 4)
    send(site)
    [job] = list_jobs(service, site)
    assert (job["user"], job["startTime"], job["duration"]) == ("alice", START, 60)
    assert (job["resources"], job["walltime"]) == ([{"hostname": "n1"}, {"hostname": "n2"}], 300)


def test_end_in_epilog_and_jobcomp_is_reported_once(service: Service, site: Site) -> None:
    events.write_start(site, 4)
    events.write_end(site, 4)
    send(site)
    events.write(site, "epilog", START + 61, {**EPILOG, "SLURM_JOB_ID": "4"})
    events.write_end(site, 4, START + 61)
    send(site)
    assert [job["duration"] for job in list_jobs(service, site)] == [60]


def test_job_names_with_special_characters(service: Service, site: Site) -> None:
    names = ['two\nlines "quoted" \\ \x01 ü', "x\n   UserId=root(0)", "😀", "\udcff\udcfe"]
    for number, name in enumerate(names, start=1):
        events.write_start(site, number, SLURM_JOB_NAME=name)
    send(site)
    names_in_ccapi = [job["metaData"]["jobName"] for job in list_jobs(service, site)]
    assert names_in_ccapi == [*names[:3], "\ufffd\ufffd"]
    assert {job["user"] for job in list_jobs(service, site)} == {"alice"}


def test_job_without_script_and_record_has_its_hosts(service: Service, site: Site) -> None:
    bare = {**events.PROLOG, "SLURM_JOB_ID": "5", "SLURM_JOB_START_TIME": str(START)}
    events.write(site, "prolog", START + 2, bare)
    send(site)
    [job] = list_jobs(service, site)
    assert (job["startTime"], job["project"], job["metaData"]) == (START, "", {"jobName": "rotor"})
    assert job["resources"] == [{"hostname": "n1"}, {"hostname": "n2"}]


def test_events_of_an_outage_arrive_in_order(service: Service, site: Site) -> None:
    numbers = list(range(1, 101))
    random.Random(1).shuffle(numbers)
    for offset, number in enumerate(numbers):
        events.write_start(site, number, START + offset)
        events.write_end(site, number, START + offset, START=str(START + offset))
    site.configure(CCAPI_URL="http://127.0.0.1:1/api/jobs")
    sender = site.run_sender("--once")
    assert (sender.returncode, len(site.names())) == (1, 200)
    site.configure(CCAPI_URL=service.url)
    send(site)
    assert [job["jobId"] for job in list_jobs(service, site)] == numbers
    assert {job["jobState"] for job in list_jobs(service, site)} == {"completed"}


def test_killed_sender_neither_loses_nor_repeats_events(service: Service, site: Site) -> None:
    for number in range(1, 101):
        events.write_start(site, number, START + number)
        events.write_end(site, number, START + number + 7, START=str(START + number))
    chance = random.Random(2)
    for _ in range(10):
        with site.sender():
            time.sleep(chance.uniform(0.1, 0.3))
    send(site)
    runs = [(job["jobId"], job["startTime"], job["duration"]) for job in list_jobs(service, site)]
    assert runs == [(number, START + number, 7) for number in range(1, 101)]


def test_rejected_event_is_a_dead_letter_until_retry(service: Service, site: Site) -> None:
    site.configure(CCAPI_URL=service.url, CCAPI_CLUSTER="-no name-")
    name = events.write_start(site, 4)
    events.write_start(site, 5)
    send(site)
    assert len(site.names("dead")) == 4
    answer = (site.spool / "dead" / f"{name}.answer").read_text("utf-8")
    assert answer.startswith('400 {"status":"Bad Request","error":"cluster:')
    status = site.run_sender("--status")
    assert (status.returncode, status.stdout.splitlines()[:2]) == (
        1,
        ["events waiting: 0", "dead letters: 2"],
    )
    site.configure(CCAPI_URL=service.url)
    site.run_sender("--retry")
    send(site)
    assert (site.names("dead"), len(list_jobs(service, site))) == ([], 2)


def test_incomplete_event_holds_back_its_job_only(service: Service, site: Site) -> None:
    now = int(time.time())
    path = site.spool / "new" / events.write_start(site, 4, now)
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    events.write_end(site, 4, now + 1, START=str(now))
    events.write_start(site, 5, now + 2)
    assert (site.run_sender("--once").returncode, len(site.names())) == (1, 2)
    assert [job["jobId"] for job in list_jobs(service, site)] == [5]
    path.write_bytes(whole)
    send(site)
    assert [job["jobId"] for job in list_jobs(service, site)] == [5, 4]
    assert site.names("dead") == []


def test_event_of_a_killed_hook_is_a_dead_letter(service: Service, site: Site) -> None:
    name = events.write_start(site, 4)
    path = site.spool / "new" / name
    path.write_bytes(path.read_bytes()[:-10])
    os.utime(path, (START, START))
    events.write_end(site, 4)
    send(site)
    assert site.names("dead") == [name, f"{name}.answer"]
    assert [job["jobState"] for job in list_jobs(service, site)] == ["completed"]


def test_epilog_replaces_an_incomplete_jobcomp_event(service: Service, site: Site) -> None:
    events.write_start(site, 4)
    events.write(site, "epilog", START + 60.1, {**EPILOG, "SLURM_JOB_ID": "4"})
    path = site.spool / "new" / events.write_end(site, 4)
    path.write_bytes(path.read_bytes()[:-10])
    os.utime(path, (START + 60, START + 60))
    send(site)
    assert [(job["jobState"], job["duration"]) for job in list_jobs(service, site)] == [
        ("completed", 60)
    ]


def test_invalid_token_loses_no_events(service: Service, site: Site) -> None:
    for number in (4, 5, 6):
        events.write_start(site, number)
    token = site.token_file.read_text("ascii")
    site.token_file.chmod(0o600)
    site.token_file.write_text("wrong", "ascii")
    assert site.run_sender("--once").returncode == 1
    assert [len(site.names()), len(site.names("dead"))] == [2, 2]
    site.token_file.write_text(token, "ascii")
    send(site)
    assert [job["jobId"] for job in list_jobs(service, site)] == [4, 5, 6]
    assert site.names("dead") == []


def test_second_sender_on_a_spool_exits(service: Service, site: Site) -> None:
    with site.sender():
        wait_until((site.spool / "lock").exists, 10, lambda: "no lock")
        wait_until(lambda: site.run_sender("--once").returncode == 2, 10, lambda: "both run")


def test_metrics_file(site: Site, service: Service) -> None:
    events.write_start(site, 4, int(time.time()) - 100)
    metrics = site.directory / "ccapi.prom"
    site.configure(CCAPI_URL="http://127.0.0.1:1/api/jobs", CCAPI_METRICS_FILE=metrics)
    site.run_sender("--once")
    lines = metrics.read_text("ascii").splitlines()
    values = dict(line.split() for line in lines if not line.startswith("#"))
    assert (values["ccapi_slurm_spool_events"], values["ccapi_slurm_dead_letters"]) == ("1", "0")
    assert 99 <= int(values["ccapi_slurm_spool_oldest_seconds"]) <= 160
    assert metrics.stat().st_mode & 0o777 == 0o644
