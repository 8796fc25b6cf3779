"""`ccapi-slurm install` where systemd runs slurmctld and the sender."""

import json
import shutil
from collections.abc import Iterator

import pytest

from tests.deploy.machine import Machine

HOOKS = "/opt/ccapi/share/ccapi/slurm"
INSTALLED = "/etc/slurm/ccapi/ccapi-slurm"
_SLURM_CONF = """\
ClusterName=fritz
SlurmctldHost=$(hostname)(127.0.0.1)
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=slurm
AuthType=auth/munge
StateSaveLocation=/var/lib/slurm/slurmctld
SlurmdSpoolDir=/var/lib/slurm/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
SlurmdParameters=config_overrides
ReturnToService=2
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=0,sched_interval=1
NodeName=$(hostname) NodeAddr=127.0.0.1 CPUs=2
PartitionName=main Nodes=$(hostname) Default=YES
"""


@pytest.fixture(scope="module")
def slurm(machine: Machine) -> Iterator[Machine]:
    """Run slurmctld and slurmd with Debian's units; the sender trusts ccapi's certificate."""
    if shutil.which("slurmctld") is None:
        pytest.skip("NO SLURM: `make test-slurm` installs it")
    # The test of the guide has connected what stands in for a Slurm.
    machine.execute(
        f"""if [ -e {INSTALLED} ]; then {INSTALLED} uninstall --force; fi
systemctl stop slurmctld || true
rm -f /etc/systemd/system/slurmctld.service /usr/local/bin/scontrol
systemctl daemon-reload
cat > /etc/slurm/slurm.conf <<END
{_SLURM_CONF}END
sed -i "s/$/ $(hostname)/" /etc/hosts
# Slurm finds no address, not even its own, on a machine that has only the loopback interface.
mkdir -p /dev/net
[ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200
ip tuntap add tap0 mode tap
ip addr add 10.9.9.1/24 dev tap0
ip link set tap0 up
# Nothing here uses control groups, but slurmd fails if it finds two kinds of them.
echo CgroupPlugin=cgroup/v1 > /etc/slurm/cgroup.conf
install -d -o slurm -g slurm /var/lib/slurm/slurmctld
cp /etc/ccapi/tls/certificate.pem /etc/ssl/certs/ccapi.pem
openssl rehash /etc/ssl/certs 2>/dev/null || true
systemctl restart munge
systemctl restart slurmctld slurmd
timeout 60 bash -c 'until sinfo -h -o %T 2>/dev/null | grep -x idle; do sleep 0.5; done' ||
    {{ journalctl --no-pager -n 50 -u slurmctld -u slurmd -u munge; exit 1; }}"""
    )
    machine.execute("(umask 077; ccapi token create installed --role writer > slurm.token)")
    yield machine
    machine.execute("systemctl stop slurmctld slurmd munge")


def main_pid(machine: Machine) -> str:
    return machine.execute("systemctl show --value --property=MainPID ccapi-slurm").strip()


def wait(machine: Machine, condition: str) -> None:
    machine.execute(f"timeout 60 bash -c 'until {condition}; do sleep 0.5; done'")


def jobs(machine: Machine) -> list[dict[str, object]]:
    curl = 'curl -sS -H "X-Auth-Token: $(cat slurm.token)" https://ccapi.example.org/api/jobs/'
    listed: list[dict[str, object]] = json.loads(machine.execute(curl))["jobs"]
    return [job for job in listed if job["cluster"] == "fritz" and job.get("partition") == "main"]


def run_job(machine: Machine) -> None:
    """Run a job, and wait until the sender has reported its end."""
    machine.execute("cd /tmp; runuser -u nobody -- sbatch --wait -o /dev/null --wrap true")
    wait(machine, f'{INSTALLED} --status | grep -x "events waiting: 0"')


def test_install_check_upgrade_and_uninstall(slurm: Machine) -> None:
    options = "--token-file slurm.token --url https://ccapi.example.org/api/jobs"
    output = slurm.execute(f"{HOOKS}/ccapi-slurm install {options}")
    assert "ccapi: https://ccapi.example.org/api/jobs accepts the token" in output
    assert "the sender is running: systemctl status ccapi-slurm" in output
    lines = [line.strip() for line in output.splitlines() if line.startswith("    ")]
    assert [line.partition("=")[0] for line in lines] == [
        "JobCompType", "JobCompLoc", "PrologSlurmctld",
    ]  # fmt: skip
    slurm.execute(f"printf '%s\\n' {' '.join(lines)} >> /etc/slurm/slurm.conf")
    slurm.execute("systemctl restart slurmctld")
    wait(slurm, "sinfo -h -o %T | grep -x idle")
    assert slurm.execute("systemctl is-active ccapi-slurm; systemctl is-enabled ccapi-slurm")
    slurm.execute(f"{INSTALLED} install --check")
    run_job(slurm)
    assert [job["jobState"] for job in jobs(slurm)] == ["completed"]

    before = main_pid(slurm)
    slurm.execute(f"{HOOKS}/ccapi-slurm install")
    assert main_pid(slurm) != before
    run_job(slurm)
    assert len(jobs(slurm)) == 2

    refusal = slurm.run(f"{INSTALLED} uninstall")
    assert (refusal[0], "slurm.conf" in refusal[1]) == (2, True)
    slurm.execute("sed -i '/^JobComp/d; /^PrologSlurmctld/d' /etc/slurm/slurm.conf")
    slurm.execute("systemctl restart slurmctld")
    wait(slurm, "scontrol ping | grep -w UP")
    slurm.execute(f"{INSTALLED} uninstall")
    assert slurm.run("systemctl is-active ccapi-slurm")[1] == "inactive\n"
    assert slurm.run("ls /etc/slurm/ccapi /var/lib/ccapi-slurm")[0] != 0
    assert slurm.run("systemctl cat ccapi-slurm")[0] != 0


def test_unit_survives_kills_and_a_lost_spool(slurm: Machine) -> None:
    options = "--token-file slurm.token --url https://ccapi.example.org/api/jobs"
    slurm.execute(f"{HOOKS}/ccapi-slurm install {options}")
    unit = "/etc/slurm/ccapi/ccapi-slurm.service"
    assert slurm.execute(f"systemd-analyze verify {unit}") == ""
    score = slurm.execute("systemd-analyze security --no-pager ccapi-slurm")
    assert float(score.rpartition("level for ccapi-slurm.service: ")[2].split()[0]) <= 3.0
    before = main_pid(slurm)
    slurm.execute(f"kill -KILL {before}")
    wait(slurm, f'[ "$(systemctl show --value --property=MainPID ccapi-slurm)" -gt {before} ]')
    slurm.execute("rm -r /var/lib/ccapi-slurm")
    wait(slurm, f'{INSTALLED} --status | grep -x "sender: running"')
    slurm.execute(f"{INSTALLED} uninstall --force")
