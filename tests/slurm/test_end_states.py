"""How the sender translates Slurm's end states."""

import time

import pytest
from ccapi_slurm import end_states, job_record
from ccapi_slurm.event import Event

from ccapi.model.job import SLURM_STATES
from tests.slurm import events
from tests.slurm.events import START

EPILOG = Event("epilog", START + 61.5, events.EPILOG, "", "")


def test_slurm_states_equal_ccapis() -> None:
    assert end_states.SLURM_STATES == SLURM_STATES


@pytest.mark.parametrize(
    ("slurm_state", "state"),
    [
        ("COMPLETED", "completed"),
        ("FAILED", "failed"),
        ("CANCELLED by 1000", "cancelled"),
        ("TIMEOUT", "timeout"),
        ("PREEMPTED", "preempted"),
        ("OUT_OF_MEMORY", "out_of_memory"),
        ("NODE_FAIL", "failed"),
        ("BOOT_FAIL", "failed"),
        ("DEADLINE", "timeout"),
        ("PENDING", "stopped"),
    ],
)
def test_jobcomp_state(slurm_state: str, state: str) -> None:
    event = Event("jobcomp", START + 61.5, {**events.JOBCOMP, "JOBSTATE": slurm_state}, "", "")
    assert end_states.from_jobcomp(event) == (state, START + 60, START)


@pytest.mark.parametrize("slurm_state", ["", "RUNNING", "FROZEN", "completed", "COMPLETED\nx"])
def test_unknown_jobcomp_state_is_not_guessed(slurm_state: str) -> None:
    event = Event("jobcomp", START + 61.5, {**events.JOBCOMP, "JOBSTATE": slurm_state}, "", "")
    assert end_states.from_jobcomp(event) is None


def test_resize_is_not_an_end() -> None:
    event = Event("jobcomp", START + 61.5, {**events.JOBCOMP, "JOBSTATE": "RESIZING"}, "", "")
    assert end_states.from_jobcomp(event) == end_states.NO_END


def stamp(epoch: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(epoch))


@pytest.mark.parametrize(
    ("slurm_state", "state"),
    [("CANCELLED by 1000", "cancelled"), ("REQUEUED", "stopped"), ("LAUNCH_FAILED", "failed")],
)
def test_sacct_state(slurm_state: str, state: str) -> None:
    earlier_run = f"FAILED|{stamp(START - 900)}|{stamp(START - 800)}"
    this_run = f"{slurm_state}|{stamp(START)}|{stamp(START + 60)}"
    end_state = end_states.from_sacct(EPILOG, f"{earlier_run}\n{this_run}\n")
    assert end_state == (state, START + 60, START)


@pytest.mark.parametrize("line", ["", "rubbish", f"RUNNING|{stamp(START)}|{stamp(START + 60)}"])
def test_sacct_without_a_final_state(line: str) -> None:
    assert end_states.from_sacct(EPILOG, line) is None


@pytest.mark.parametrize(
    ("slurm_state", "start", "expected"),
    [
        ("TIMEOUT", START, ("timeout", START + 60, START)),
        ("COMPLETING", START, None),
        ("PENDING", 0, ("stopped", START + 61, 0)),
        ("RUNNING", START + 180, ("stopped", START + 61, 0)),
    ],
    ids=["ended", "completing", "requeued", "next run"],
)
def test_record_state(slurm_state: str, start: int, expected: tuple[str, int, int] | None) -> None:
    text = events.scontrol_output(4).replace("JobState=CONFIGURING", f"JobState={slurm_state}")
    record = job_record.find(text, EPILOG)
    assert record is not None
    record = record._replace(start_time=start, end_time=START + 60)
    assert end_states.from_record(EPILOG, record) == expected


@pytest.mark.parametrize(
    ("variables", "state"),
    [
        ({"SLURM_JOB_EXIT_CODE": "0"}, "completed"),
        ({"SLURM_JOB_EXIT_CODE": "256"}, "failed"),
        ({"EXITCODE": "0:0"}, "completed"),
        ({"EXITCODE": "3:0"}, "failed"),
    ],
)
def test_state_from_exit_code(variables: dict[str, str], state: str) -> None:
    event = EPILOG._replace(environment=variables)
    assert end_states.from_exit_code(event) == (state, START + 61, 0)
