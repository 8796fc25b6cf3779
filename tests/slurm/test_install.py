"""`ccapi-slurm install` from nothing, again as an upgrade, and `uninstall`."""

import os
import pwd
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.processes import Service
from tests.slurm.cluster import wait_until
from tests.slurm.site import HOOKS, Site

pytestmark = pytest.mark.slow
USER = pwd.getpwuid(os.geteuid()).pw_name


@dataclass
class Host:
    """slurmctld's host: a scontrol that prints a configuration, and no systemd."""

    directory: Path
    site: Site
    url: str

    @property
    def installed(self) -> Path:
        """Return the directory of the installation."""
        return self.directory / "etc" / "ccapi"

    def configure(self, **values: str) -> None:
        """Let scontrol print a configuration."""
        config = {
            "ClusterName": "fritz",
            "SlurmUser": f"{USER}({os.geteuid()})",
            "SLURM_VERSION": "24.11.5",
            "StateSaveLocation": str(self.directory),
            "SLURM_CONF": "/etc/slurm/slurm.conf",
            "JobCompType": "(null)",
            "PrologSlurmctld": "(null)",
            **values,
        }
        lines = "".join(f"{name:24}= {value}\n" for name, value in config.items())
        script = f"#!/bin/sh\ncat <<'END'\n{lines}END\n"
        (self.directory / "bin" / "scontrol").write_text(script, "utf-8")
        (self.directory / "bin" / "scontrol").chmod(0o755)

    def run(self, *arguments: str, program: Path = HOOKS) -> subprocess.CompletedProcess[str]:
        """Run ccapi-slurm for this installation."""
        path = f"{self.directory}/bin:{os.environ['PATH']}"
        command = [str(program / "ccapi-slurm"), *arguments, "--directory", str(self.installed)]
        return subprocess.run(
            command,
            env={"PATH": path},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def install(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Install for the first time."""
        token = ("--token-file", str(self.site.token_file))
        return self.run("install", "--url", self.url, *token, *arguments)


@pytest.fixture
def host(service: Service, site: Site, tmp_path: Path) -> Host:
    """Provide a host without hooks."""
    if Path("/run/systemd/system").exists():
        pytest.skip("it would start a service of this machine")
    host = Host(tmp_path, site, service.url)
    (tmp_path / "bin").mkdir()
    host.configure()
    return host


def use_spool(host: Host) -> Path:
    """Let the installation have a spool below the test's directory."""
    spool = host.directory / "var" / "spool"
    host.installed.mkdir(parents=True)
    (host.installed / "ccapi.conf").write_text(
        f"CCAPI_CLUSTER=fritz\nCCAPI_SPOOL={spool}\n", "utf-8"
    )
    return spool


def test_first_installation_prints_the_lines_of_slurm_conf(host: Host) -> None:
    spool = use_spool(host)
    done = host.install()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"installed in {host.installed} for Slurm 24.11.5, whose user is {USER}",
        f"ccapi: {host.url} accepts the token",
        f"there is no systemd here, start the sender with: {host.installed}/ccapi-slurm",
        "add to /etc/slurm/slurm.conf, and run `systemctl restart slurmctld`:",
        "    JobCompType=jobcomp/script",
        f"    JobCompLoc={host.installed}/jobcomp",
        f"    PrologSlurmctld={host.installed}/prolog",
    ]
    modes = {
        name: stat.S_IMODE((host.installed / name).stat().st_mode)
        for name in ("token", "ccapi.conf", "prolog", "spool.sh", "ccapi_slurm")
    }
    assert modes == {
        "token": 0o400,
        "ccapi.conf": 0o644,
        "prolog": 0o755,
        "spool.sh": 0o644,
        "ccapi_slurm": 0o755,
    }
    assert stat.S_IMODE(spool.stat().st_mode) == 0o700
    unit = (host.installed / "ccapi-slurm.service").read_text("utf-8")
    assert f"ExecStart={host.installed}/ccapi-slurm\nUser={USER}\n" in unit


def test_settings_come_from_slurm(host: Host) -> None:
    host.install()
    settings = (host.installed / "ccapi.conf").read_text("utf-8").splitlines()
    expected = {
        f"CCAPI_URL={host.url}",
        "CCAPI_CLUSTER=fritz",
        f"CCAPI_SLURM_STATE={host.directory}",
    }
    assert expected <= set(settings)


def test_test_event_goes_all_the_way(host: Host) -> None:
    use_spool(host)
    host.install()
    without_sender = host.run("install", "--check")
    assert without_sender.returncode == 1
    assert "test event: no sender is running" in without_sender.stdout
    with_sender = checked(host, lambda: None)
    assert with_sender.returncode == 0
    last = with_sender.stdout.splitlines()[-1]
    assert last == "test event: the hook wrote it, the sender sent it, ccapi answered"
    (host.installed / "token").chmod(0o600)
    wrong = checked(host, lambda: (host.installed / "token").write_text("wrong"))
    assert wrong.returncode == 1
    assert "test event: ccapi does not know the token" in wrong.stdout


def checked(host: Host, change: Callable[[], object]) -> subprocess.CompletedProcess[str]:
    """Change something, and send a test event while a sender runs."""
    change()
    sender = subprocess.Popen([host.installed / "ccapi-slurm"], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: has_sender(host), 30, lambda: "the sender does not start")
        return host.run("install", "--check")
    finally:
        sender.kill()
        sender.wait(10)


def has_sender(host: Host) -> bool:
    status = subprocess.run(
        [host.installed / "ccapi-slurm", "--status"], capture_output=True, text=True, check=False
    )
    return "sender: running" in status.stdout


def test_upgrade_keeps_settings_and_replaces_files(host: Host) -> None:
    host.install()
    settings = (host.installed / "ccapi.conf").read_text("utf-8") + "CCAPI_TIMEOUT=7\n"
    (host.installed / "ccapi.conf").write_text(settings, "utf-8")
    (host.installed / "prolog").write_text("old", "utf-8")
    (host.installed / "ccapi_slurm" / "removed.py").write_text("old", "utf-8")
    host.configure(
        PrologSlurmctld=f"{host.installed}/prolog",
        JobCompType="jobcomp/script",
        JobCompLoc=f"{host.installed}/jobcomp",
    )
    done = host.run("install")
    assert done.stdout.splitlines()[-1] == "slurm.conf has its lines"
    assert (host.installed / "ccapi.conf").read_text("utf-8") == settings
    assert (host.installed / "prolog").read_bytes() == (HOOKS / "prolog").read_bytes()
    assert not (host.installed / "ccapi_slurm" / "removed.py").exists()
    host.run("install", "--cluster", "alex")
    changed = (host.installed / "ccapi.conf").read_text("utf-8").splitlines()
    assert {"CCAPI_CLUSTER=alex", "CCAPI_TIMEOUT=7"} <= set(changed)
    assert "CCAPI_CLUSTER=fritz" not in changed


def test_site_with_other_hooks_gets_advice(host: Host) -> None:
    host.configure(
        SLURM_VERSION="21.08.8",
        JobCompType="jobcomp/elasticsearch",
        PrologSlurmctld="/etc/slurm/site-prolog",
    )
    other = "PrologSlurmctld is /etc/slurm/site-prolog"
    lines = host.install().stdout.splitlines()
    assert lines[0] == "Slurm 21.08.8 is not among the tested versions, 22.05 to 26.05"
    assert lines[-3:] == [
        f"{other}: let that script call {host.installed}/prolog with its environment",
        "add to /etc/slurm/slurm.conf, and run `systemctl restart slurmctld`:",
        f"    EpilogSlurmctld={host.installed}/epilog",
    ]


@pytest.mark.parametrize(
    ("values", "arguments", "reason"),
    [
        ({}, (), "add --url https://"),
        ({}, ("--url", "http://127.0.0.1:1/api/jobs"), "add --token-file FILE"),
        ({"SlurmUser": "nobody-here(5)"}, ("--url", "http://x"), "there is no user nobody-here"),
        ({}, ("--url", "http://x", "--token-file", "/nowhere"), "/nowhere"),
    ],
)
def test_what_is_missing_is_one_line(
    host: Host, values: dict[str, str], arguments: tuple[str, ...], reason: str
) -> None:
    host.configure(**values)
    done = host.run("install", *arguments)
    assert (done.returncode, reason in done.stderr) == (2, True)
    assert done.stderr.startswith("ccapi-slurm: ")
    assert done.stderr.count("\n") == 1


def test_uninstall_waits_for_slurm_conf_and_events(host: Host) -> None:
    spool = use_spool(host)
    host.install()
    (spool / "new").mkdir()
    (spool / "new" / "4-prolog-1.00").write_text("x")
    host.configure(PrologSlurmctld=f"{host.installed}/prolog")
    refused = host.run("uninstall")
    assert (refused.returncode, "PrologSlurmctld from slurm.conf" in refused.stderr) == (2, True)
    host.configure()
    refused = host.run("uninstall")
    assert (refused.returncode, "1 events are in" in refused.stderr) == (2, True)
    done = host.run("uninstall", "--force")
    assert done.stdout.splitlines() == [f"removed {spool}", f"removed {host.installed}"]
    assert not spool.exists()
    assert not host.installed.exists()
