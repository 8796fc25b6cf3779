"""The systemd units, rated and run by systemd."""

import re

import pytest

from tests.deploy.machine import Machine

UNITS = (
    "ccapi.service",
    "ccapi-readers.service",
    "ccapi-archive-retry.service",
    "ccapi-rollup.service",
)


@pytest.mark.parametrize("unit", UNITS)
def test_exposure_of_a_unit_is_at_most_3(machine: Machine, unit: str) -> None:
    output = machine.execute(f"systemd-analyze security --no-pager {unit}")
    [score] = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", output)
    assert float(score) <= 3.0


def test_units_are_valid(machine: Machine) -> None:
    timers = "ccapi-archive-retry.timer ccapi-rollup.timer"
    names = f"{' '.join(UNITS)} ccapi.socket ccapi-readers.socket {timers}"
    assert machine.execute(f"systemd-analyze verify {names}") == ""


def test_commands_for_ccapi_are_for_the_readers_too(machine: Machine) -> None:
    units = "ccapi.socket ccapi.service ccapi-readers.socket ccapi-readers.service"
    # systemd passes a command on, and does not wait for the other unit.
    states = f"[ $(systemctl is-active {units} | grep -cx %s) = 4 ]"
    wait = "timeout 60 bash -c 'until %s; do sleep 0.2; done'"
    main_pid = "systemctl show --value --property=MainPID ccapi-readers"
    before = machine.execute(main_pid)
    machine.execute("systemctl restart ccapi")
    assert machine.execute(main_pid) != before
    machine.execute("systemctl stop ccapi.socket ccapi.service")
    try:
        machine.execute(wait % states % "inactive")
    finally:
        machine.execute("systemctl start ccapi.socket ccapi.service")
    machine.execute(wait % states % "active")
    machine.await_idle_workers()
    machine.execute("systemctl reload ccapi")
    machine.execute(
        wait % 'journalctl --unit=ccapi-readers --since=-1min | grep -q "Handling signal: hup"'
    )


@pytest.mark.parametrize("unit", UNITS[:2])
def test_out_of_memory_ends_a_worker_and_not_the_service(machine: Machine, unit: str) -> None:
    listed = machine.execute(f"systemctl show --property=OOMPolicy,MemoryMax {unit}")
    assert "OOMPolicy=continue\n" in listed
    assert re.search(r"MemoryMax=\d+\n", listed)


def test_the_service_can_write_only_to_the_archive(machine: Machine) -> None:
    pid = machine.execute("systemctl show --value --property=MainPID ccapi").strip()
    inside = f"nsenter --target={pid} --mount runuser -u ccapi -- touch"
    assert machine.run(f"{inside} /var/lib/ccapi/job-archive/probe")[0] == 0
    for path in ("/etc/ccapi/probe", "/opt/ccapi/probe", "/var/lib/probe"):
        assert machine.run(f"nsenter --target={pid} --mount touch {path}")[0] != 0, path
    machine.execute("rm /var/lib/ccapi/job-archive/probe")


def test_reload_with_a_wrong_setting_fails_without_effect(
    machine: Machine,
) -> None:
    settings = "/etc/ccapi/config.toml"
    machine.await_idle_workers()
    machine.execute(
        f"cp -p {settings} /tmp/backup; echo '[jobs]\nduplicate_windo = 1' >> {settings}"
    )
    try:
        assert machine.run("systemctl reload ccapi")[0] != 0
        output = machine.execute("journalctl --unit=ccapi --since=-1min --output=cat")
        assert "did you mean duplicate_window?" in output
        ask = "curl -sS --fail --max-time 20 --unix-socket /run/ccapi.sock http://x/healthz"
        assert machine.execute(ask) == '{"status":"OK"}\n'
    finally:
        machine.execute(f"cp -p /tmp/backup {settings}; systemctl reset-failed ccapi || true")


def require_bus(machine: Machine) -> None:
    if machine.run("test -S /run/dbus/system_bus_socket")[0]:
        pytest.skip("no system bus here: apt-get install dbus")


@pytest.mark.parametrize(
    ("former", "new"),
    [
        ("^root = .*", 'root = "/var/lib/elsewhere"'),
        ("^url = .*", 'url = "postgresql://ccapi@127.0.0.1/ccapi"'),
    ],
    ids=["archive outside ReadWritePaths", "database by TCP"],
)
def test_check_finds_what_the_sandbox_of_the_unit_forbids(
    machine: Machine, former: str, new: str
) -> None:
    require_bus(machine)
    settings = "/etc/ccapi/config.toml"
    machine.execute("install -d -o ccapi -g ccapi -m 750 /var/lib/elsewhere; ccapi check")
    machine.execute(f"cp -p {settings} /tmp/backup; sed -i 's|{former}|{new}|' {settings}")
    try:
        status, output = machine.run("ccapi check")
        assert status > 0, output
        assert "this check ran in the sandbox of ccapi.service" in output
    finally:
        machine.execute(f"cp -p /tmp/backup {settings}")


def test_check_follows_drop_ins_of_the_unit(machine: Machine) -> None:
    require_bus(machine)
    settings, drop_in = "/etc/ccapi/config.toml", "/etc/systemd/system/ccapi.service.d"
    machine.execute(
        f"install -d -o ccapi -g ccapi -m 750 /var/lib/elsewhere; install -d {drop_in};"
        f"printf '[Service]\\nReadWritePaths=/var/lib/elsewhere\\n' > {drop_in}/archive.conf;"
        f"cp -p {settings} /tmp/backup; systemctl daemon-reload;"
        f"sed -i 's|^root = .*|root = \"/var/lib/elsewhere\"|' {settings}"
    )
    try:
        assert "ok: settings" in machine.execute("ccapi check")
    finally:
        machine.execute(
            f"cp -p /tmp/backup {settings}; rm -r {drop_in} /var/lib/elsewhere;"
            "systemctl daemon-reload"
        )
