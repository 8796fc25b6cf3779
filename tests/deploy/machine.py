"""A machine to install on, in namespaces, with this machine's systemd, nginx and PostgreSQL.

It has a copy of this machine's files; its changes stay in memory and end with it.
"""

import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = "ccapi.example.org"
_SYSTEMD = Path("/lib/systemd/systemd")
_NAMESPACES = ("--mount", "--net", "--pid", "--uts", "--ipc", "--cgroup")
_BOOT_SECONDS = 120
# systemd as in a container, with the harmless devices and its own control groups.
_BOOT = f"""\
set -e
mount -t tmpfs none "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs none dev
for device in null zero full random urandom tty; do
    touch dev/$device
    mount --bind /dev/$device dev/$device
done
mkdir dev/shm dev/pts
mount -t tmpfs none dev/shm
ln -s /proc/self/fd dev/fd
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=755 none run
mount -t tmpfs none tmp
ip link set lo up
echo "127.0.0.1 localhost {NAME}" > etc/hosts
echo 0123456789abcdef0123456789abcdef > etc/machine-id
rm -rf var/log/journal var/log/nginx/*
mkdir -p var/log/nginx
mkdir -p old
pivot_root . old
cd /
umount --lazy /old
exec chroot . env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin \\
    {_SYSTEMD} --system --unit=multi-user.target
"""


class Machine:
    """A running machine, which runs commands as root in /root/site."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.environment: dict[str, str] = {}

    def start(self, script: str) -> subprocess.Popen[str]:
        """Run a bash script; its output contains the standard error, too."""
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        return subprocess.Popen(
            [
                *("nsenter", f"--target={self._pid}", "--mount", "--net", "--pid", "--uts"),
                *("--ipc", "--cgroup", "--root", "--wd", "env", "-i", "HOME=/root", "LC_ALL=C"),
                *("PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", *variables),
                *("bash", "-c", f"mkdir -p /root/site; cd /root/site; {script}"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, script: str, seconds: float = 120) -> tuple[int, str]:
        """Run a script and return its exit status and output."""
        process = self.start(script)
        output, _ = process.communicate(timeout=seconds)
        return process.returncode, output

    def execute(self, script: str, seconds: float = 120) -> str:
        """Run a script that must succeed, and return its output."""
        status, output = self.run(f"set -e; {script}", seconds)
        assert status == 0, f"{script}\n{output}"
        return output

    def await_idle_workers(self) -> None:
        """Wait until the service's workers are idle: they read the settings when they start."""
        show = "systemctl show --value --property=CPUUsageNSec ccapi ccapi-readers"
        used = f"echo $(($({show} | grep . | paste -sd+)))"
        idle = f"until a=$({used}); sleep 1; [ $(($({used}) - a)) -lt 50000000 ]; do :; done"
        self.execute(f"systemctl is-active ccapi; timeout 90 bash -c '{idle}'")

    def bring(self, source: Path, target: str) -> None:
        """Copy a file into the machine."""
        path = shlex.quote(target)
        root = Path(f"/proc/{self._pid}/root")
        shutil.copyfile(source, root / target.lstrip("/"))
        self.execute(f"chmod 644 {path}")

    def fetch(self, source: str, target: Path) -> None:
        """Copy a file out of the machine."""
        shutil.copyfile(Path(f"/proc/{self._pid}/root") / source.lstrip("/"), target)


def missing() -> str:
    """Return why this machine cannot run another one; empty if it can."""
    if os.geteuid() != 0:
        return "only root can run a machine"
    programs = [name for name in ("unshare", "nsenter", "nginx", "ip") if not shutil.which(name)]
    files = [path for path in (_SYSTEMD, Path("/etc/postgresql")) if not path.exists()]
    if programs or files:
        return f"missing: {', '.join(map(str, [*programs, *files]))}"
    attempt = subprocess.run(
        ["unshare", *_NAMESPACES, "--fork", "mount", "-t", "tmpfs", "none", "/mnt"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"no namespaces: {attempt.stderr.strip()}" if attempt.returncode else ""


@contextmanager
def booted() -> Iterator[Machine]:
    """Boot a machine, and wait for its services."""
    directory = Path(tempfile.mkdtemp(prefix="ccapi-machine-"))
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", *_NAMESPACES, "--fork"]
    command += ["--kill-child", "--propagation", "private"]
    log = directory.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "bash", "-c", _BOOT, "boot", str(directory)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield _when_up(process, log)
    finally:
        process.kill()
        process.wait(30)
        directory.rmdir()
        log.unlink()


def _when_up(process: subprocess.Popen[bytes], log: Path) -> Machine:
    deadline = time.monotonic() + _BOOT_SECONDS
    up = "systemctl is-active postgresql@*.service && systemctl is-active nginx.service"
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.5)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("ascii")
        if children and Path(f"/proc/{children.split()[0]}/comm").read_text("ascii") == "systemd\n":
            machine = Machine(int(children.split()[0]))
            if machine.run(up)[0] == 0:
                return machine
    raise AssertionError(f"the machine does not boot: {log.read_text('utf-8', 'replace')}")
