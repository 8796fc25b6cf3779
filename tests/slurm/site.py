"""What a site installs to connect its Slurm: the hooks, their settings, the spool, the sender."""

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
    """An installation below a directory."""

    directory: Path

    @property
    def hooks(self) -> Path:
        """Return where the hooks and the sender are."""
        return self.directory / "ccapi"

    @property
    def spool(self) -> Path:
        """Return where the events are."""
        return self.directory / "spool"

    @property
    def token_file(self) -> Path:
        """Return where the token is."""
        return self.directory / "token"

    def names(self, folder: str = "new") -> list[str]:
        """Name the files in one of the spool's folders."""
        return sorted(path.name for path in (self.spool / folder).iterdir())

    def configure(self, **settings: str | int | Path) -> None:
        """Write the settings, beyond where the spool and the token are."""
        given = {
            "CCAPI_CLUSTER": "fritz",
            "CCAPI_SPOOL": self.spool,
            "CCAPI_TOKEN_FILE": self.token_file,
            **settings,
        }
        lines = [f"{name}='{value}'\n" for name, value in given.items()]
        (self.hooks / "ccapi.conf").write_text("".join(lines), "utf-8")

    def hook(self, name: str, environment: Mapping[str, str], user: str | None = None) -> float:
        """Run a hook as slurmctld does, and return its run time; its exit status must be 0."""
        command = [*_as(user), str(self.hooks / name)]
        started = time.monotonic()
        done = subprocess.run(command, env=dict(environment), capture_output=True, check=False)
        seconds = time.monotonic() - started
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        return seconds

    def command(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run the sender's program to its end."""
        return subprocess.run(
            [self.hooks / "ccapi-slurm", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    @contextlib.contextmanager
    def sender(self, user: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """Run the sender, as a user if one is named, and as nice as its unit makes it."""
        command = ["nice", "-n", "10", *_as(user), str(self.hooks / "ccapi-slurm")]
        with (self.directory / "sender.log").open("ab") as log:
            process = subprocess.Popen(command, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait(10)


def _as(user: str | None) -> list[str]:
    """Return what goes before a command that a user runs; without PATH it needs its whole name."""
    if user is None:
        return []
    return ["/usr/bin/setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]


def install(directory: Path, token: str, owner: str | None = None) -> Site:
    """Do what the README says."""
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


def jobs(service: Service, site: Site) -> list[dict[str, Any]]:
    """Ask the registry for its jobs with their metadata, in the order of their registration."""
    url = f"{service.url}/?with-metadata=true&items-per-page=100000"
    token = site.token_file.read_text("ascii")
    request = urllib.request.Request(url, headers={"X-Auth-Token": token})
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: list[dict[str, Any]] = json.load(answer)["jobs"]
    return sorted(found, key=lambda job: int(job["id"]))
