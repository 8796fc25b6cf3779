"""Each reason why the service does not work is reported in one line."""

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
    "missing settings": (f"rm {SETTINGS}", "true", "see that it exists"),
    "settings of a wrong mode": (f"chmod 600 {SETTINGS}", "true", "user may read it"),
    "a missing archive": (
        f"mv {ARCHIVE} {ARCHIVE}.away",
        f"mv {ARCHIVE}.away {ARCHIVE}",
        "check [archive] root",
    ),
    "an archive of a wrong mode": (f"chmod 500 {ARCHIVE}", f"chmod 750 {ARCHIVE}", "may write"),
    "an archive mounted read-only": (READ_ONLY, f"umount {ARCHIVE}", "may write"),
    "PostgreSQL down": (
        POSTGRESQL.format("stop"),
        POSTGRESQL.format("start"),
        "check that PostgreSQL runs",
    ),
    "a missing database": (
        f"sed -i 's|///ccapi|///nothing|' {SETTINGS}",
        "true",
        "check role, password and database",
    ),
}


@pytest.fixture(scope="module", autouse=True)
def _idle_workers(machine: Machine) -> None:
    """Let all workers start before the first fault: one that starts later would log it, too."""
    machine.await_idle_workers()


@contextmanager
def fault(machine: Machine, name: str) -> Iterator[str]:
    """Inject a fault, return the words of its message, and heal it afterwards."""
    inject, heal, words = FAULTS[name]
    machine.execute(f"cp -p {SETTINGS} /tmp/backup; {inject}")
    try:
        yield words
    finally:
        machine.execute(f"cp -p /tmp/backup {SETTINGS}; {heal}")


@pytest.mark.parametrize("name", FAULTS)
def test_check_fails_with_one_line(machine: Machine, name: str) -> None:
    with fault(machine, name) as words:
        status, output = machine.run("ccapi check")
    # If there is a system bus, a second line says where the check ran.
    assert (status > 0, output.count("\n")) in {(True, 1), (True, 2)}, output
    assert output.startswith("ccapi: ")
    assert words in output
    assert machine.execute("ccapi check") == "ok: settings, file modes, database and archive\n"


def test_log_has_the_reason_and_the_service_starts_after_healing(
    machine: Machine,
) -> None:
    with fault(machine, "settings of a wrong mode") as words:
        machine.run("systemctl restart ccapi")
    machine.execute("timeout 60 bash -c 'until systemctl is-active -q ccapi; do sleep 0.5; done'")
    output = machine.execute("journalctl --unit=ccapi --since=-1min --output=cat")
    assert words in output
    assert "Traceback" not in output


def test_systemd_reports_an_occupied_socket(machine: Machine) -> None:
    machine.execute(
        "systemctl stop ccapi.socket ccapi.service; rm -f /run/ccapi.sock; mkdir /run/ccapi.sock"
    )
    try:
        status, _ = machine.run("systemctl start ccapi.service")
        assert status != 0
        assert "/run/ccapi.sock" in machine.execute("journalctl --unit=ccapi.socket --lines=5")
    finally:
        machine.execute("rmdir /run/ccapi.sock; systemctl reset-failed 'ccapi*'")
        machine.execute("systemctl start ccapi.socket ccapi.service")
