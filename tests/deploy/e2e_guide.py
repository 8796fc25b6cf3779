"""The operating guide, followed on a machine."""

import time
from pathlib import Path

import pytest

from tests.console import Block
from tests.deploy.conftest import TRUSTED, bring_wheels, follow, guide, install
from tests.deploy.machine import NAME, Machine, booted
from tests.slurm.curl_site import SECTION as CURL_ALONE
from tests.test_docs import COMMAND_LINE, RECONCILE, SITE_SECTIONS, SQL

EVERYDAY = (
    "Start, stop and reload",
    "Configure",
    "Tokens",
    "What is in it",
    "When the archive cannot be written",
    "Retire old jobs",
    "Health",
    "Metrics",
    "Prometheus and Grafana",
    "The log",
    "Statistics of long ranges",
    "Grow",
    "When it does not start",
    SQL,
)
# Enough of a Slurm for the commands that connect it; `make test-slurm` has a real one.
SLURM = """\
id slurm > /dev/null || useradd --system --user-group slurm
rm -rf /var/lib/ccapi-slurm
mkdir -p /etc/slurm
: > /etc/slurm/slurm.conf
cat > /usr/local/bin/scontrol <<'END'
#!/bin/sh
echo "StateSaveLocation       = /var/spool/slurmctld"
END
chmod 755 /usr/local/bin/scontrol
cat > /etc/systemd/system/slurmctld.service <<'END'
[Service]
ExecStart=/bin/sleep infinity
END
systemctl daemon-reload"""
START = """{
    "jobId": 1034871, "user": "abcd100h", "cluster": "fritz", "startTime": 1768978339,
    "resources": [{"hostname": "f0101"}]}"""
STOP = """{"jobId": 1034871, "jobState": "completed", "stopTime": 1768985539}"""
SEND = 'curl -sS --fail -H "X-Auth-Token: $(cat slurm.token)" https://ccapi.example.org/api/jobs'


def test_installation_takes_less_than_ten_minutes(
    wheels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with booted() as machine:
        begun = time.monotonic()
        install(machine, wheels)
        seconds = time.monotonic() - begun
        with capsys.disabled():
            print(f"\nfrom the files to the first answer over TLS: {seconds:.0f} s")
        assert seconds < 600
        machine.execute("mkdir var; ln -s /var/lib/ccapi/job-archive var/job-archive")
        machine.execute("ccapi token create demo --role admin > var/token 2> /dev/null")
        follow(machine, *(through_nginx(section) for section in guide("api").values()))


def through_nginx(section: list[Block]) -> list[Block]:
    """Return a section's blocks with the address and the settings of a site."""
    site = {"http://127.0.0.1:8080": f"https://{NAME}", "ccapi --config var/config.toml": "ccapi"}
    for demo, replacement in site.items():
        section = [
            step._replace(commands=step.commands.replace(demo, replacement)) for step in section
        ]
    return section


def test_slurm_is_connected_as_in_the_guide(machine: Machine) -> None:
    machine.execute(SLURM)
    *connect, look = guide("slurm")["Five commands"]
    follow(machine, connect)
    machine.execute(
        "timeout 20 sh -c 'until /etc/slurm/ccapi/ccapi-slurm --status; do sleep 0.2; done'"
    )
    follow(machine, [look])
    configured = machine.execute("grep -c /etc/slurm/ccapi /etc/slurm/slurm.conf")
    assert configured == "2\n"
    assert "CCAPI_SLURM_STATE=/var/spool/slurmctld" in machine.execute(
        "cat /etc/slurm/ccapi/ccapi.conf"
    )


@pytest.mark.parametrize("section", EVERYDAY)
def test_everyday_section(machine: Machine, section: str) -> None:
    follow(machine, guide()[section])


def test_backup_is_restored_on_another_machine(
    machine: Machine, wheels: Path, tmp_path: Path
) -> None:
    machine.execute(f"{SEND}/start_job/ -d '{START}'; {SEND}/stop_job/ -d '{STOP}'")
    sections = guide()
    follow(machine, sections["Back up"])
    before = machine.execute(f"{SEND}/")
    token = machine.execute("cat slurm.token").strip()
    with booted() as elsewhere:
        bring_wheels(elsewhere, wheels)
        last = next(
            number
            for number, step in enumerate(sections["Install"])
            if step.commands.endswith("install.sh")
        )
        follow(elsewhere, sections["Install"][: last + 1])
        elsewhere.execute("install -d -m 700 /var/backups/ccapi")
        for name in ("database.dump", "archive.tar.gz", "settings.tar.gz"):
            machine.fetch(f"/var/backups/ccapi/{name}", tmp_path / name)
            elsewhere.bring(tmp_path / name, f"/var/backups/ccapi/{name}")
        follow(elsewhere, sections["Restore"])
        elsewhere.environment |= TRUSTED
        elsewhere.execute(f"echo {token} > slurm.token")
        retry = "--retry 9 --retry-all-errors 2> /dev/null"
        assert elsewhere.execute(f"{SEND}/ {retry}") == before
    assert '"jobId":1034871' in before


def test_every_command_of_the_guides_is_run_by_a_test() -> None:
    run = {*EVERYDAY, "Install", "Back up", "Restore", "Upgrade", COMMAND_LINE, *SITE_SECTIONS}
    assert {title for title, blocks in guide().items() if blocks} == run
    assert {title for title, blocks in guide("slurm").items() if blocks} == {
        "Five commands",
        RECONCILE,
        CURL_ALONE,
    }
    assert not [title for title, blocks in guide("design").items() if blocks]
