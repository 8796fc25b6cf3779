"""Reloads and an upgrade under load: no request fails."""

import json
import time
from pathlib import Path

import pytest

from tests.deploy.conftest import NEXT_VERSION, follow, guide
from tests.deploy.machine import Machine

REQUESTS = 10_000
RELOADS = 5


def test_no_request_fails_during_reloads_and_an_upgrade(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.bring(Path(__file__).with_name("traffic.py"), "/root/traffic.py")
    token = machine.execute("rm -f /tmp/end; ccapi token create load --role writer 2> /dev/null")
    traffic = machine.start(f"python3 /root/traffic.py {token.strip()} {REQUESTS} /tmp/end")
    for _ in range(RELOADS):
        time.sleep(3)
        machine.execute("systemctl reload ccapi")
    follow(machine, guide()["Upgrade"])
    machine.execute("touch /tmp/end")
    output, _ = traffic.communicate(timeout=300)
    counts = json.loads(output)
    with capsys.disabled():
        print(
            f"\n{RELOADS} reloads, one upgrade, {sum(counts.values())} requests by answer: {output}"
        )
    assert set(counts) == {"200", "201"}, output
    assert sum(counts.values()) >= REQUESTS
    assert NEXT_VERSION in machine.execute("ccapi --version")
    reloads = machine.execute("journalctl --unit=ccapi | grep -c 'Handling signal: hup'")
    assert int(reloads) >= RELOADS
    assert machine.execute("ccapi archive check") == "archive and database agree\n"
