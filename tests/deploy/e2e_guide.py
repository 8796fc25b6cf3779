"""The operating guide, followed on a machine."""

import time
from pathlib import Path

import pytest

from tests.console import Step, split, steps
from tests.deploy.conftest import ROOT, follow, guide, new_machine
from tests.deploy.machine import NAME, Machine, booted

EVERYDAY = (
    "Start, stop and reload",
    "Rotate tokens",
    "Grow",
    "Retire old jobs",
    "Read the metrics",
    "Watch",
    "When it does not start",
)
OPERATIONS = ("The life of a job", "When the batch system says otherwise")
START = """{
    "jobId": 1034871, "user": "abcd100h", "cluster": "fritz", "startTime": 1768978339,
    "resources": [{"hostname": "f0101"}]}"""
STOP = """{"jobId": 1034871, "jobState": "completed", "stopTime": 1768985539}"""
SEND = (
    "curl -sS --fail --cacert /etc/ccapi/tls/certificate.pem "
    '-H "X-Auth-Token: $(cat slurm.token)" https://ccapi.example.org/api/jobs'
)


def test_from_the_files_to_the_service_takes_less_than_ten_minutes_and_all_operations_work(
    wheels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with booted() as fresh:
        new_machine(wheels, fresh)
        begun = time.monotonic()
        follow(fresh, guide()["Install"])
        seconds = time.monotonic() - begun
        with capsys.disabled():
            print(f"\nfrom the files to the first answer by TLS: {seconds:.0f} s")
        assert seconds < 600
        fresh.tell("mkdir var; ln -s /var/lib/ccapi/job-archive var/job-archive")
        fresh.tell("ccapi token create demo --role admin > var/token 2> /dev/null")
        fresh.environment["CURL_CA_BUNDLE"] = "/etc/ccapi/tls/certificate.pem"
        follow(fresh, *(through_nginx(section) for section in OPERATIONS))


def through_nginx(section: str) -> list[Step]:
    """Read the README's commands of a section, with the address of a site."""
    text = split((ROOT / "README.rst").read_text("utf-8"))[section]
    return steps(text.replace("http://127.0.0.1:8080", f"https://{NAME}"))


@pytest.mark.parametrize("section", EVERYDAY)
def test_what_is_done_every_day_is_as_shown(machine: Machine, section: str) -> None:
    follow(machine, guide()[section])


def test_a_backup_is_restored_elsewhere_and_archive_and_database_agree(
    machine: Machine, wheels: Path, tmp_path: Path
) -> None:
    machine.tell(f"{SEND}/start_job/ -d '{START}'; {SEND}/stop_job/ -d '{STOP}'")
    told = guide()
    follow(machine, told["Back up and restore"])
    before = machine.tell(f"{SEND}/")
    token = machine.tell("cat slurm.token").strip()
    with booted() as elsewhere:
        new_machine(wheels, elsewhere)
        until = next(
            n for n, step in enumerate(told["Install"]) if step.command.endswith("install.sh")
        )
        follow(elsewhere, told["Install"][: until + 1])
        elsewhere.tell("install -d -m 700 /var/backups/ccapi")
        for name in ("database.dump", "archive.tar.gz", "settings.tar.gz"):
            machine.fetch(f"/var/backups/ccapi/{name}", tmp_path / name)
            elsewhere.bring(tmp_path / name, f"/var/backups/ccapi/{name}")
        follow(elsewhere, told["Restore"])
        elsewhere.tell(f"echo {token} > slurm.token")
        assert elsewhere.tell(f"{SEND}/ --retry 9 --retry-all-errors") == before
    assert '"jobId":1034871' in before


def test_every_command_of_the_guide_is_run_by_a_test() -> None:
    run = {*EVERYDAY, "Install", "Back up and restore", "Restore", "Upgrade"}
    assert {title for title, commands in guide().items() if commands} == run
