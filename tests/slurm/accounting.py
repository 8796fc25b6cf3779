"""A slurmdbd with its MariaDB, for a cluster of the tests."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.processes import free_port
from tests.slurm.cluster import command, wait_until

PACKAGES = ("slurmdbd", "mariadb-server")
_PROGRAMS = ("slurmdbd", "mariadbd", "mariadb-install-db", "mariadb", "sacctmgr", "sacct")
_CONF = """\
AuthType=auth/munge
AuthInfo=socket={directory}/munge/socket
DbdHost=localhost
DbdPort={port}
SlurmUser=slurm
PidFile={directory}/slurmdbd.pid
LogFile={directory}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={mariadb_port}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
"""
_SLURM_CONF = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort={port}
AccountingStoragePass={directory}/munge/socket
AccountingStorageTRES=gres/gpu
"""
_SCHEMA = (
    "CREATE DATABASE slurm; CREATE USER slurm IDENTIFIED BY 'slurm'; GRANT ALL ON slurm.* TO slurm;"
)


def install_packages() -> str:
    """Install slurmdbd and MariaDB if they are missing; return why they cannot run, or ""."""
    if shutil.which("apt-get") and _missing_programs():
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES]
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        subprocess.run(install, check=False, env=environment)
    if missing := _missing_programs():
        return f"NO SLURMDBD: {', '.join(missing)} not found; install {', '.join(PACKAGES)}"
    return ""


def _missing_programs() -> list[str]:
    return [name for name in _PROGRAMS if shutil.which(name) is None]


@contextlib.contextmanager
def slurmdbd(directory: Path, cluster: str) -> Iterator[None]:
    """Run a slurmdbd that knows a cluster, and add its lines to slurm.conf.

    The cluster's munged runs already, and its slurmctld does not.
    """
    with contextlib.ExitStack() as running:
        mariadb_port, port = _start_mariadb(running, directory / "mariadb"), free_port()
        conf = directory / "slurmdbd.conf"
        values = {"directory": directory, "port": port, "mariadb_port": mariadb_port}
        conf.write_text(_CONF.format(**values), "ascii")
        conf.chmod(0o600)
        (directory / "slurmdbd.log").touch()
        for path in (conf, directory / "slurmdbd.log"):
            shutil.chown(path, "slurm", "slurm")
        slurm_conf = directory / "slurm.conf"
        with slurm_conf.open("a", encoding="utf-8") as file:
            file.write(_SLURM_CONF.format(**values))
        environment = {"SLURM_CONF": str(slurm_conf)}
        _run(running, ["slurmdbd", "-D"], "slurm", environment)
        add = ["sacctmgr", "-i", "add", "cluster", cluster]

        def is_known() -> bool:
            process = subprocess.run(
                add, env={**os.environ, **environment}, capture_output=True, check=False
            )
            return process.returncode == 0

        wait_until(is_known, 60, (directory / "slurmdbd.log").read_text)
        yield


def _start_mariadb(running: contextlib.ExitStack, directory: Path) -> int:
    """Start an empty MariaDB with a user for slurmdbd; return its port."""
    directory.mkdir(mode=0o755)
    shutil.chown(directory, "mysql", "mysql")
    port, socket = free_port(), directory / "socket"
    data = f"--datadir={directory}/data"
    command(["mariadb-install-db", "--no-defaults", "--user=mysql", "--skip-test-db", data])
    options = [data, f"--port={port}", f"--socket={socket}", "--bind-address=127.0.0.1"]
    options += [f"--pid-file={directory}/pid", f"--log-error={directory}/log"]
    _run(running, ["mariadbd", "--no-defaults", *options], "mysql", {})
    wait_until(socket.exists, 60, lambda: (directory / "log").read_text("utf-8"))
    command(["mariadb", "--no-defaults", f"--socket={socket}", "-e", _SCHEMA])
    return port


def _run(
    running: contextlib.ExitStack, arguments: list[str], user: str, environment: dict[str, str]
) -> None:
    as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    process = subprocess.Popen(
        [*as_user, *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    running.callback(process.wait, 30)
    running.callback(process.terminate)
