"""What keeps the service from working is told in one line each, on a machine as sites have it."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.deploy.machine import Machine

SETTINGS = "/etc/ccapi/config.toml"
ARCHIVE = "/var/lib/ccapi/job-archive"
POSTGRESQL = "systemctl {} postgresql"
READ_ONLY = f"mount --bind {ARCHIVE} {ARCHIVE}; mount -o remount,ro,bind {ARCHIVE}"

FAULTS = {
    "a wrong setting": (
        f"printf '[jobs]\\nduplicate_windo = 1\\n' >> {SETTINGS}",
        "true",
        "did you mean duplicate_window?",
    ),
    "settings that are not there": (f"rm {SETTINGS}", "true", "see that it exists"),
    "settings of a wrong mode": (f"chmod 600 {SETTINGS}", "true", "user may read it"),
    "an archive that is not there": (
        f"mv {ARCHIVE} {ARCHIVE}.away",
        f"mv {ARCHIVE}.away {ARCHIVE}",
        "check [archive] root",
    ),
    "an archive of a wrong mode": (f"chmod 500 {ARCHIVE}", f"chmod 750 {ARCHIVE}", "may write"),
    "an archive that is mounted read-only": (READ_ONLY, f"umount {ARCHIVE}", "may write"),
    "a PostgreSQL that is down": (
        POSTGRESQL.format("stop"),
        POSTGRESQL.format("start"),
        "check that PostgreSQL runs",
    ),
    "a database that is not there": (
        f"sed -i 's|///ccapi|///nothing|' {SETTINGS}",
        "true",
        "[database] url is right",
    ),
}


@pytest.fixture(scope="module", autouse=True)
def _settled(machine: Machine) -> None:
    """Let all workers start before the first fault: one that meets it would tell it, too."""
    machine.settle()


@contextmanager
def fault(machine: Machine, name: str) -> Iterator[str]:
    """Break something and return the words that tell it; mend it after."""
    wreck, mend, words = FAULTS[name]
    machine.tell(f"cp -p {SETTINGS} /tmp/kept; {wreck}")
    try:
        yield words
    finally:
        machine.tell(f"cp -p /tmp/kept {SETTINGS}; {mend}")


@pytest.mark.parametrize("name", FAULTS)
def test_a_check_tells_it_in_one_line_and_fails(machine: Machine, name: str) -> None:
    with fault(machine, name) as words:
        status, said = machine.run("ccapi check")
    assert (status, said.count("\n")) == (1, 1), said
    assert said.startswith("ccapi: ")
    assert words in said
    assert machine.tell("ccapi check") == "ok: settings, file modes, database and archive\n"


def test_the_log_tells_why_the_service_does_not_start_and_it_starts_once_that_is_mended(
    machine: Machine,
) -> None:
    with fault(machine, "settings of a wrong mode") as words:
        machine.run("systemctl restart ccapi")
    machine.tell("timeout 60 bash -c 'until systemctl is-active -q ccapi; do sleep 0.5; done'")
    said = machine.tell("journalctl --unit=ccapi --since=-1min --output=cat")
    assert words in said
    assert "Traceback" not in said


def test_a_socket_that_somebody_has_is_told_by_systemd(machine: Machine) -> None:
    machine.tell(
        "systemctl stop ccapi.socket ccapi.service; rm -f /run/ccapi.sock; mkdir /run/ccapi.sock"
    )
    try:
        status, _ = machine.run("systemctl start ccapi.service")
        assert status != 0
        assert "/run/ccapi.sock" in machine.tell("journalctl --unit=ccapi.socket --lines=5")
    finally:
        machine.tell("rmdir /run/ccapi.sock; systemctl reset-failed 'ccapi*'")
        machine.tell("systemctl start ccapi.socket ccapi.service")
