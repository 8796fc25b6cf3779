"""An installation of the hooks that need only a shell and curl, as on each node of a cluster."""

import contextlib
import re
import shutil
import socket
import subprocess
import textwrap
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.console import split, steps
from tests.slurm.site import HOOKS, ROOT

CURL_HOOKS = HOOKS / "curl"
GUIDE = ROOT / "docs" / "slurm.rst"
SECTION = "Curl alone: hooks of slurmd"
SCRIPTS = ("prolog", "epilog", "flush")
SHELLS = [path for path in map(shutil.which, ("dash", "bash")) if path]
START = 1_795_478_265
# Slurm 22.05, Prolog of slurmd.
PROLOG = {
    "SLURMD_NODENAME": "n1",
    "SLURM_CLUSTER_NAME": "fritz",
    "SLURM_JOB_CPUS_PER_NODE": "2(x3)",
    "SLURM_JOB_GID": "995",
    "SLURM_JOB_ID": "4",
    "SLURM_JOB_NUM_NODES": "3",
    "SLURM_JOB_PARTITION": "main",
    "SLURM_JOB_RESTART_COUNT": "0",
    "SLURM_JOB_UID": "999",
    "SLURM_JOB_USER": "alice",
    "SLURM_NODELIST": "n[1-3]",
    "SLURM_SCRIPT_CONTEXT": "prolog_slurmd",
}
EPILOG = {
    **PROLOG,
    "SLURM_JOB_DERIVED_EC": "0",
    "SLURM_JOB_EXIT_CODE": "0",
    "SLURM_JOB_EXIT_CODE2": "0:0",
    "SLURM_SCRIPT_CONTEXT": "epilog_slurmd",
}


@dataclass(frozen=True)
class CurlSite:
    """An installation in a directory; `shell` replaces the shell of the scripts."""

    directory: Path
    shell: str = "/bin/sh"

    @property
    def hooks(self) -> Path:
        """Return the directory of the hooks."""
        return self.directory / "ccapi-curl"

    @property
    def spool(self) -> Path:
        """Return the spool directory, which the hooks create."""
        return self.directory / "spool"

    def names(self, folder: str = "new") -> list[str]:
        """Return the names of the files in one of the spool's folders."""
        return sorted(path.name for path in (self.spool / folder).glob("*"))

    def configure(self, **settings: str | int | Path) -> None:
        """Write ccapi.conf with these settings and the spool."""
        values = {"CCAPI_SPOOL": self.spool, "CCAPI_FLUSH_SPREAD": 0, **settings}
        lines = [f"{name}='{value}'\n" for name, value in values.items()]
        (self.hooks / "ccapi.conf").write_text("".join(lines), "utf-8")

    def run_hook(self, name: str, environment: Mapping[str, str]) -> float:
        """Run a hook as slurmd does, and return its run time; its exit status must be 0."""
        started = time.monotonic()
        process = subprocess.run(
            [self.hooks / name], env=dict(environment), capture_output=True, check=False
        )
        seconds = time.monotonic() - started
        assert (process.returncode, process.stdout, process.stderr) == (0, b"", b"")
        return seconds

    def flush(self, *arguments: str) -> None:
        """Run flush as cron does."""
        process = subprocess.run(
            [self.hooks / "flush", *arguments],
            env={},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert (process.returncode, process.stdout, process.stderr) == (0, b"", b"")


def install(directory: Path, token: str, shell: str = "/bin/sh") -> CurlSite:
    """Install the hooks and the token by the guide's commands, to run in a shell."""
    site = CurlSite(directory, shell)
    [step] = steps(split(GUIDE.read_text("utf-8"))[SECTION])
    commands = step.commands.replace("/opt/ccapi/share/ccapi/slurm/curl", str(CURL_HOOKS))
    commands = commands.replace("/etc/slurm", str(directory))
    commands = commands.replace("/etc/cron.d/", f"{directory}/cron-")
    (directory / "slurm.token").write_text(token, "ascii")
    subprocess.run(["bash", "-ec", commands], cwd=directory, check=True)
    for name in SCRIPTS:
        path = site.hooks / name
        path.write_text(path.read_text("ascii").replace("#!/bin/sh", f"#!{shell}", 1), "ascii")
    return site


def write_token(site: CurlSite, token: str) -> None:
    """Replace the token."""
    (site.hooks / "header").write_text(f"X-Auth-Token: {token}\n", "ascii")


def write_example(site: CurlSite, url: str, path: str = "/usr/local/bin:/usr/bin:/bin") -> Path:
    """Write the guide's example of ten lines, for a URL, and return its path."""
    section = split(GUIDE.read_text("utf-8"))[SECTION]
    [block] = re.findall(r"(?m)^\.\. code-block:: sh\n\n((?:    .*\n)+)", section)
    text = textwrap.dedent(block).replace("#!/bin/sh", f"#!{site.shell}")
    for in_guide, here in (
        ("https://ccapi.example.org/api/jobs", url),
        ("/etc/slurm/ccapi-header", str(site.hooks / "header")),
        ("/usr/local/bin:/usr/bin:/bin", path),
    ):
        assert in_guide in text
        text = text.replace(in_guide, here)
    script = site.directory / "example"
    script.write_text(text, "ascii")
    script.chmod(0o755)
    return script


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """Listen on a port, accept connections and never answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]
