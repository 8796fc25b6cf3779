"""The systemd units, as systemd judges and runs them."""

import re

import pytest

from tests.deploy.machine import Machine

UNITS = ("ccapi.service", "ccapi-archive-retry.service")


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_is_exposed_no_more_than_3(machine: Machine, unit: str) -> None:
    said = machine.tell(f"systemd-analyze security --no-pager {unit}")
    [score] = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert float(score) <= 3.0


def test_systemd_finds_nothing_wrong_with_the_units(machine: Machine) -> None:
    names = f"{' '.join(UNITS)} ccapi.socket ccapi-archive-retry.timer"
    assert machine.tell(f"systemd-analyze verify {names}") == ""


def test_the_service_writes_nowhere_but_to_the_archive(machine: Machine) -> None:
    pid = machine.tell("systemctl show --value --property=MainPID ccapi").strip()
    inside = f"nsenter --target={pid} --mount runuser -u ccapi -- touch"
    assert machine.run(f"{inside} /var/lib/ccapi/job-archive/probe")[0] == 0
    for path in ("/etc/ccapi/probe", "/opt/ccapi/probe", "/var/lib/probe"):
        assert machine.run(f"nsenter --target={pid} --mount touch {path}")[0] != 0, path
    machine.tell("rm /var/lib/ccapi/job-archive/probe")


def test_a_reload_with_a_wrong_setting_is_refused_and_the_service_goes_on(
    machine: Machine,
) -> None:
    settings = "/etc/ccapi/config.toml"
    machine.settle()
    machine.tell(f"cp -p {settings} /tmp/kept; echo '[jobs]\nduplicate_windo = 1' >> {settings}")
    try:
        assert machine.run("systemctl reload ccapi")[0] != 0
        said = machine.tell("journalctl --unit=ccapi --since=-1min --output=cat")
        assert "did you mean duplicate_window?" in said
        ask = "curl -sS --fail --max-time 20 --unix-socket /run/ccapi.sock http://x/healthz"
        assert machine.tell(ask) == '{"status":"OK"}\n'
    finally:
        machine.tell(f"cp -p /tmp/kept {settings}; systemctl reset-failed ccapi || true")
