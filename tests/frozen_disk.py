"""A file system that can be frozen, and requests to a service whose archive it has."""

import http.client
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Service


def run(*command: str) -> bool:
    """Run a command; return whether it succeeded."""
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of its own; thaw it in any case, because nothing can kill its victims."""
    if os.geteuid() or not all(map(shutil.which, ("fsfreeze", "mkfs.ext4", "mount"))):
        pytest.skip("only root can freeze a file system, with fsfreeze and mkfs.ext4")
    image, mount_point = tmp_path / "image", tmp_path / "disk"
    image.write_bytes(b"")
    os.truncate(image, 1 << 26)
    mount_point.mkdir()
    assert run("mkfs.ext4", "-q", str(image))
    if not run("mount", "-o", "loop", str(image), str(mount_point)):
        pytest.skip("this machine cannot mount a file")
    try:
        yield mount_point
    finally:
        run("fsfreeze", "-u", str(mount_point))
        run("umount", "--lazy", str(mount_point))


def eventually(condition: Callable[[], bool]) -> bool:
    """Wait for a condition; return whether it came true."""
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def send(service: Service, token: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Send a request, and return the status and the JSON of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    try:
        method, data = ("GET", None) if body is None else ("POST", json.dumps(body))
        connection.request(method, path, data, {"X-Auth-Token": token})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()
