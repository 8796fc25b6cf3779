"""A real Slurm of four virtual nodes on this machine, without systemd, cgroups or /etc."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from tests.processes import free_port

Accounting = Callable[[Path, str], AbstractContextManager[None]]
NODES = ("n1", "n2", "n3", "n4")
PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
USER = "ccapi-jobs"

_CONF = """\
ClusterName={name}
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser=slurm
AuthType=auth/munge
AuthInfo=socket={directory}/munge/socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/slurmd-%n
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd-%n.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
PrologFlags=Alloc
PrologEpilogTimeout=30
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=0,sched_interval=1
GresTypes=gpu
KillWait=2
MaxArraySize=1001
SlurmdTimeout=10
{nodes}
PartitionName=main Nodes=n[1-4] Default=YES MaxTime=INFINITE PriorityTier=10 OverSubscribe=NO
PartitionName=whole Nodes=n[1-4] PriorityTier=10 OverSubscribe=EXCLUSIVE
PartitionName=low Nodes=n[1-4] PriorityTier=1
{extra}
"""


def command(arguments: Sequence[str], **environment: str) -> str:
    """Run a command and return its output, which a failure shows."""
    process = subprocess.run(
        arguments,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
        check=False,
    )
    assert process.returncode == 0, f"{arguments}: {process.stdout}{process.stderr}"
    return process.stdout


class Slurm:
    """A running cluster."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.name = directory, name
        self.conf = directory / "slurm.conf"
        self.work = directory / "work"

    def run(self, *arguments: str, user: str | None = None) -> str:
        """Run one of Slurm's commands, as root or as a user."""
        as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        prefix = as_user if user else []
        return command([*prefix, *arguments], SLURM_CONF=str(self.conf), TZ="UTC", HOME="/")

    def sbatch(self, *arguments: str, script: str = "true") -> int:
        """Submit a job as an ordinary user and return its id."""
        path = self.work / f"script-{time.monotonic_ns()}"
        path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
        common = ["sbatch", "--parsable", "--output=/dev/null", f"--chdir={self.work}"]
        return int(self.run(*common, *arguments, str(path), user=USER).split(";")[0])

    def wait(self, condition: Callable[[], bool], seconds: float, failure: str) -> None:
        """Wait for a condition, or fail with the end of slurmctld's log."""
        wait_until(condition, seconds, lambda: f"{failure}\n{self.log()[-4000:]}")

    def queue(self) -> dict[int, str]:
        """Return the state of every job that has not ended."""
        lines = self.run("squeue", "-h", "-r", "-o", "%A %T").splitlines()
        return {int(line.split()[0]): line.split()[1] for line in lines}

    def node_states(self) -> set[str]:
        """Return the states of the nodes, including Slurm's suffixes."""
        return set(self.run("sinfo", "-h", "-N", "-o", "%T").split())

    def log(self) -> str:
        """Return slurmctld's log."""
        return (self.directory / "slurmctld.log").read_text("utf-8", "replace")


def wait_until(condition: Callable[[], bool], seconds: float, failure: Callable[[], str]) -> None:
    """Wait for a condition, or fail with a text."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, failure()
        time.sleep(0.1)


@contextlib.contextmanager
def slurm(
    directory: Path, name: str, extra: str = "", accounting: Accounting | None = None
) -> Iterator[Slurm]:
    """Run a cluster; `extra` are lines of slurm.conf, `accounting` runs a slurmdbd."""
    cluster = Slurm(directory, name)
    _prepare(cluster, extra)
    with contextlib.ExitStack() as running:
        munge = directory / "munge"
        _start(
            running,
            ["setpriv", "--reuid=munge", "--regid=munge", "--clear-groups", "munged"],
            ["--foreground", f"--socket={munge}/socket", f"--key-file={munge}/key"],
            [f"--pid-file={munge}/pid", f"--log-file={munge}/log", f"--seed-file={munge}/seed"],
        )
        wait_until((munge / "socket").exists, 20, lambda: "munged does not start")
        if accounting is not None:
            running.enter_context(accounting(directory, name))
        as_slurm = ["setpriv", "--reuid=slurm", "--regid=slurm", "--clear-groups"]
        _start(running, as_slurm, ["slurmctld", "-D", "-f", str(cluster.conf)])
        for node in NODES:
            _start(running, ["slurmd", "-D", "-f", str(cluster.conf), "-N", node])
        cluster.wait(lambda: _is_up(cluster), 60, "the nodes do not come up")
        yield cluster


def _is_up(cluster: Slurm) -> bool:
    try:
        return cluster.node_states() == {"idle"}
    except AssertionError:
        return False


def _prepare(cluster: Slurm, extra: str) -> None:
    directory = cluster.directory
    directory.chmod(0o755)
    for folder, owner in (("state", "slurm"), ("munge", "munge"), ("work", USER)):
        (directory / folder).mkdir(mode=0o755)
        shutil.chown(directory / folder, owner, owner)
    key = directory / "munge" / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    shutil.chown(key, "munge", "munge")
    (directory / "slurmctld.log").touch()
    shutil.chown(directory / "slurmctld.log", "slurm")
    for number in range(2):
        device = directory / f"gpu{number}"
        os.mknod(device, 0o20666, os.makedev(195, number))
    gres = f"Name=gpu File={directory}/gpu[0-1]\n"
    (directory / "gres.conf").write_text(gres, "ascii")
    cluster.conf.write_text(
        _CONF.format(
            name=cluster.name,
            port=free_port(),
            directory=directory,
            nodes="\n".join(_node(name) for name in NODES),
            extra=extra,
        ),
        "utf-8",
    )


def _node(name: str) -> str:
    address = f"NodeHostname=localhost NodeAddr=127.0.0.1 Port={free_port()}"
    return f"NodeName={name} {address} Sockets=1 CoresPerSocket=4 ThreadsPerCore=2 Gres=gpu:2"


def _start(running: contextlib.ExitStack, *arguments: Sequence[str]) -> None:
    words = [word for part in arguments for word in part]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    running.callback(process.wait, 30)
    running.callback(process.terminate)


def install_packages() -> str:
    """Install Slurm if it is missing; return why it cannot run, and what to do, or ""."""
    if os.geteuid() != 0:
        return "NO REAL SLURM: its daemons and its jobs' users need root; run the tests as root"
    if shutil.which("apt-get") and _missing_commands():
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES]
        subprocess.run(
            install, check=False, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        )
    if _missing_commands():
        reason = f"{', '.join(_missing_commands())} not found, and apt-get cannot install them"
        return f"NO REAL SLURM: {reason}; install Debian's packages {', '.join(PACKAGES)}"
    return ""


def _missing_commands() -> list[str]:
    commands = ("slurmctld", "slurmd", "scontrol", "munged")
    return [name for name in commands if shutil.which(name) is None]


@contextlib.contextmanager
def temporary_user() -> Iterator[None]:
    """Create a user who submits the jobs, and delete it afterwards."""
    if USER in {entry.pw_name for entry in pwd.getpwall()}:
        yield
        return
    command(["useradd", "--system", "--user-group", "--shell", "/bin/sh", USER])
    try:
        yield
    finally:
        _kill_processes(USER)
        # --force, because zombies of the user still count as its processes.
        command(["userdel", "--force", USER])


def _kill_processes(user: str) -> None:
    """Kill the processes of jobs that outlived their slurmd."""
    uid = pwd.getpwnam(user).pw_uid
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            if process.stat().st_uid == uid:
                os.kill(int(process.name), signal.SIGKILL)
