"""The circuit breaker of the archive: a time limit, no second victim, and its own recovery."""

import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager

import pytest

from ccapi.archive.breaker import ArchiveTimeout, CircuitBreaker
from ccapi.errors import ArchiveError, Busy

TIMEOUT = 0.2


class HangingDisk:
    """A disk on which every call waits until it is thawed."""

    def __init__(self) -> None:
        self.thawed = threading.Event()
        self.calls = 0

    def write(self) -> str:
        self.calls += 1
        assert self.thawed.wait(60)
        return "written"


@pytest.fixture
def disk() -> Iterator[HangingDisk]:
    disk = HangingDisk()
    yield disk
    disk.thawed.set()


def eventually_closed(breaker: CircuitBreaker) -> bool:
    deadline = time.monotonic() + 30
    while breaker.is_open and time.monotonic() < deadline:
        time.sleep(0.01)
    return not breaker.is_open


def test_a_result_and_an_error_are_passed_on() -> None:
    breaker = CircuitBreaker(60)

    def fail() -> None:
        raise ArchiveError("full")

    assert breaker.run(max, 1, 2) == 2
    with pytest.raises(ArchiveError, match="full"):
        breaker.run(fail)
    with pytest.raises(TimeoutError, match="the function's own"):
        breaker.run(lambda: (_ for _ in ()).throw(TimeoutError("the function's own")))
    assert not breaker.is_open


def test_a_call_ends_at_its_time_limit_and_no_other_begins(disk: HangingDisk) -> None:
    breaker = CircuitBreaker(TIMEOUT)
    for _ in range(3):
        with pytest.raises(ArchiveTimeout, match="does not answer"):
            breaker.run(disk.write)
    assert (disk.calls, breaker.is_open) == (1, True)


def test_call_without_a_slot_ends_early(disk: HangingDisk) -> None:
    def no_slot() -> AbstractContextManager[None]:
        raise Busy("others wait")

    breaker = CircuitBreaker(600, hold_slot=no_slot)
    with pytest.raises(ArchiveTimeout, match=r"within 0\.5 seconds"):
        breaker.run(disk.write)
    assert breaker.is_open


def test_calls_run_again_when_the_late_one_has_returned(disk: HangingDisk) -> None:
    breaker = CircuitBreaker(TIMEOUT)
    with pytest.raises(ArchiveTimeout):
        breaker.run(disk.write)
    disk.thawed.set()
    assert eventually_closed(breaker)
    assert breaker.run(disk.write) == "written"


@pytest.mark.slow
def test_the_probe_decides_when_calls_run_again(disk: HangingDisk) -> None:
    is_full, probes = True, 0

    def probe() -> None:
        nonlocal probes
        probes += 1
        if is_full:
            raise ArchiveError("still full")

    breaker = CircuitBreaker(TIMEOUT, probe)
    with pytest.raises(ArchiveTimeout):
        breaker.run(disk.write)
    disk.thawed.set()
    while probes < 2:
        assert breaker.is_open
        time.sleep(0.05)
    is_full = False
    assert eventually_closed(breaker)


def test_recovery_gets_the_jobs_whose_files_are_late(disk: HangingDisk) -> None:
    late: list[Collection[int]] = []
    recovered = threading.Event()

    def recover(job_ids: Collection[int]) -> None:
        late.append(job_ids)
        recovered.set()

    breaker = CircuitBreaker(TIMEOUT)
    breaker.on_recovery = recover
    with pytest.raises(ArchiveTimeout):
        breaker.run(disk.write, job_id=7)
    disk.thawed.set()
    assert recovered.wait(30)
    assert late == [{7}]


def test_a_child_process_starts_threads_of_its_own() -> None:
    code = """
import os
from ccapi.archive.breaker import CircuitBreaker
breaker = CircuitBreaker(60)
breaker.run(max, 1, 2)
pid = os.fork()
if not pid:
    os._exit(breaker.run(max, 1, 2))
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 2
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
