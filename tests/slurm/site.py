"""An installation that connects a Slurm: hooks, settings, spool, sender."""

import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.processes import Service

ROOT = Path(__file__).resolve().parents[2]
HOOKS = ROOT / "deploy" / "slurm"


@dataclass(frozen=True)
class Site:
    """An installation in a directory."""

    directory: Path

    @property
    def hooks(self) -> Path:
        """Return the directory of the hooks and the sender."""
        return self.directory / "ccapi"

    @property
    def spool(self) -> Path:
        """Return the spool directory."""
        return self.directory / "spool"

    @property
    def token_file(self) -> Path:
        """Return the path of the token."""
        return self.directory / "token"

    def names(self, folder: str = "new") -> list[str]:
        """Return the names of the files in one of the spool's folders."""
        return sorted(path.name for path in (self.spool / folder).iterdir())

    def configure(self, **settings: str | int | Path) -> None:
        """Write ccapi.conf with these settings, the spool and the token."""
        values = {
            "CCAPI_CLUSTER": "fritz",
            "CCAPI_SPOOL": self.spool,
            "CCAPI_TOKEN_FILE": self.token_file,
            **settings,
        }
        lines = [f"{name}='{value}'\n" for name, value in values.items()]
        (self.hooks / "ccapi.conf").write_text("".join(lines), "utf-8")

    def run_hook(self, name: str, environment: Mapping[str, str], user: str | None = None) -> float:
        """Run a hook as slurmctld does, and return its run time; its exit status must be 0."""
        command = [*_as_user(user), str(self.hooks / name)]
        started = time.monotonic()
        process = subprocess.run(command, env=dict(environment), capture_output=True, check=False)
        seconds = time.monotonic() - started
        assert (process.returncode, process.stdout, process.stderr) == (0, b"", b"")
        return seconds

    def run_sender(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run the sender with arguments until it exits."""
        return subprocess.run(
            [self.hooks / "ccapi-slurm", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    @contextlib.contextmanager
    def sender(self, user: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """Run the sender in the background, as a user if one is named, as nice as its unit."""
        command = ["nice", "-n", "10", *_as_user(user), str(self.hooks / "ccapi-slurm")]
        with (self.directory / "sender.log").open("ab") as log:
            process = subprocess.Popen(command, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait(10)


def _as_user(user: str | None) -> list[str]:
    """Return the prefix of a command that a user runs, with a full path, as hooks have no PATH."""
    if user is None:
        return []
    return ["/usr/bin/setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]


def install(directory: Path, token: str, owner: str | None = None) -> Site:
    """Install hooks, sender and token as the guide says."""
    site = Site(directory)
    shutil.copytree(HOOKS, site.hooks, ignore=shutil.ignore_patterns("__pycache__"))
    site.token_file.write_text(token, "ascii")
    site.token_file.chmod(0o400)
    folders = [site.spool / name for name in ("new", "tmp", "jobs", "ends", "dead")]
    for folder in folders:
        folder.mkdir(mode=0o700, parents=True)
    site.spool.chmod(0o700)
    if owner:
        for path in (site.token_file, site.spool, *folders):
            shutil.chown(path, owner, owner)
    return site


def list_jobs(service: Service, site: Site) -> list[dict[str, Any]]:
    """Return the jobs in ccapi with their metadata, in the order of their registration."""
    url = f"{service.url}/?with-metadata=true&items-per-page=100000"
    token = site.token_file.read_text("ascii")
    request = urllib.request.Request(url, headers={"X-Auth-Token": token})
    with urllib.request.urlopen(request, timeout=30) as response:
        jobs: list[dict[str, Any]] = json.load(response)["jobs"]
    return sorted(jobs, key=lambda job: int(job["id"]))
