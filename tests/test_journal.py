"""Lines in systemd's journal have the priority of their level."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import clean_environment

LOG = """
import logging
from ccapi import logs
logs.configure("INFO", "{style}")
log = logging.getLogger("ccapi.test")
log.info("one")
log.warning("two")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("three")
"""


def log(directory: Path, style: str, stream: str) -> list[str]:
    """Return the lines of a process whose JOURNAL_STREAM is {stream}, for its standard error."""
    file = directory / "stderr"
    with file.open("wb") as output:
        status = os.fstat(output.fileno())
        own = f"{status.st_dev}:{status.st_ino}"
        environment = {**clean_environment(), "PYTHONPATH": ":".join(sys.path)}
        environment["JOURNAL_STREAM"] = stream.format(own=own)
        command = [sys.executable, "-c", LOG.format(style=style)]
        subprocess.run(command, env=environment, stderr=output, check=True, timeout=60)
    return file.read_text("utf-8").splitlines()


@pytest.mark.parametrize("style", ["json", "text"])
def test_each_line_has_its_priority(tmp_path: Path, style: str) -> None:
    one, two, *three = log(tmp_path, style, "{own}")
    assert one.startswith("<6>")
    assert two.startswith("<4>")
    assert three
    assert all(line.startswith("<3>") for line in three)


def test_other_streams_get_no_priority(tmp_path: Path) -> None:
    assert all(line.startswith("{") for line in log(tmp_path, "json", "1:2"))
