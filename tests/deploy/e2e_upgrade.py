"""Reloads and an upgrade under load: no request fails."""

import json
import time
from pathlib import Path

import pytest

from tests.deploy.conftest import NEXT_VERSION, follow, guide
from tests.deploy.machine import Machine

REQUESTS = 10_000
RELOADS = 5


def test_no_request_fails_during_five_reloads_and_an_upgrade_with_a_migration(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.bring(Path(__file__).with_name("traffic.py"), "/root/traffic.py")
    token = machine.tell("rm -f /tmp/end; ccapi token create load --role writer 2> /dev/null")
    traffic = machine.start(f"python3 /root/traffic.py {token.strip()} {REQUESTS} /tmp/end")
    for _ in range(RELOADS):
        time.sleep(3)
        machine.tell("systemctl reload ccapi")
    follow(machine, guide()["Upgrade"])
    machine.tell("touch /tmp/end")
    said, _ = traffic.communicate(timeout=300)
    counts = json.loads(said)
    with capsys.disabled():
        print(
            f"\n{RELOADS} reloads, one upgrade, {sum(counts.values())} requests by answer: {said}"
        )
    assert set(counts) == {"200", "201"}, said
    assert sum(counts.values()) >= REQUESTS
    assert NEXT_VERSION in machine.tell("ccapi --version")
    reloads = machine.tell("journalctl --unit=ccapi | grep -c 'Handling signal: hup'")
    assert int(reloads) >= RELOADS
    assert machine.tell("ccapi archive check") == "archive and database agree\n"
