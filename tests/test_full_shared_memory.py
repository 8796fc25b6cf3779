"""Shared memory is full: workers start and answer, and only their metrics suffer."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccapi import prometheus_multiproc
from tests.processes import clean_environment

COUNT = """
import os, sys
{first}
from ccapi import prometheus_multiproc
is_prepared = prometheus_multiproc.prepare_worker(os.getpid(), os.getuid(), os.getgid())
from ccapi import metrics
for number in range(200):
    metrics.STARTS.labels(str(number)).inc()
print(is_prepared)
"""


# As for the counters of a dead worker.
IMPORT = "from prometheus_client import multiprocess"


@pytest.fixture
def small_memory(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system in memory that is full."""
    directory = tmp_path / "shm"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "ccapi-test", str(directory)]
    if os.geteuid() or not shutil.which("mount"):
        pytest.skip("only root can mount a small file system")
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this machine does not let root mount a file system")
    (directory / "filler").write_bytes(bytes(65_536))
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


def count(directory: Path, first: str = "") -> str:
    """Run a worker that counts; `first` is what gunicorn's master has done before."""
    environment = {**clean_environment(), prometheus_multiproc.VARIABLE: str(directory)}
    environment["PYTHONPATH"] = ":".join(sys.path)
    command = [sys.executable, "-c", COUNT.format(first=first)]
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


@pytest.mark.parametrize("first", ["", IMPORT], ids=["first worker", "after a dead worker"])
def test_a_worker_counts_for_itself_if_there_is_no_memory(small_memory: Path, first: str) -> None:
    assert count(small_memory, first) == "False"
    assert [file.name for file in small_memory.iterdir()] == ["filler"]


def test_the_memory_of_a_worker_is_allocated_at_its_start(tmp_path: Path) -> None:
    assert count(tmp_path) == "True"
    for file in tmp_path.glob("*.db"):
        assert file.stat().st_blocks * 512 >= file.stat().st_size
