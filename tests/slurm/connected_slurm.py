"""A real Slurm that is connected to a real ccapi, as the guide describes."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccapi.db.pool import Database
from ccapi.model.token import Role
from ccapi.service import tokens
from tests.processes import Service
from tests.slurm import cluster
from tests.slurm.cluster import Accounting, Slurm
from tests.slurm.site import Site, install, list_jobs

EPILOG = "EpilogSlurmctld={hooks}/epilog\nJobCompType=jobcomp/filetxt\nJobCompLoc={slurm}/ended"
JOBCOMP = "JobCompType=jobcomp/script\nJobCompLoc={hooks}/jobcomp"
BOTH = f"EpilogSlurmctld={{hooks}}/epilog\n{JOBCOMP}"
_PROLOG = "PrologSlurmctld={hooks}/prolog\n"


@dataclass(frozen=True)
class ConnectedSlurm:
    """A cluster, its hooks and sender, and the ccapi that they report to."""

    slurm: Slurm
    site: Site
    service: Service

    def jobs(self, cluster: str = "") -> list[dict[str, Any]]:
        """Return this or another cluster's jobs in ccapi, in the order of their registration."""
        jobs = list_jobs(self.service, self.site)
        return [job for job in jobs if job["cluster"] == (cluster or self.slurm.name)]

    def runs(self, job_id: int) -> list[dict[str, Any]]:
        """Return a job's runs, oldest first."""
        return [job for job in self.jobs() if job["jobId"] == job_id]

    def configure(self, **settings: str | int | Path) -> None:
        """Change settings of the hooks and the sender."""
        self.site.configure(
            **{
                "CCAPI_URL": self.service.url,
                "CCAPI_CLUSTER": self.slurm.name,
                "SLURM_CONF": self.slurm.conf,
                "CCAPI_SLURM_STATE": self.slurm.directory / "state",
                **settings,
            }
        )

    def wait_for_jobs(self, count: int, seconds: float = 120) -> None:
        """Wait until Slurm's queue is empty and ccapi has this number of ended jobs."""
        self.slurm.wait(lambda: not self.slurm.queue(), seconds, "the queue does not empty")
        self.slurm.wait(
            lambda: sum(job["jobState"] != "running" for job in self.jobs()) >= count,
            seconds,
            f"{count} ended jobs are expected",
        )


@contextlib.contextmanager
def connected_slurm(
    name: str,
    service: Service,
    database: Database,
    hook_lines: str,
    accounting: Accounting | None = None,
) -> Iterator[ConnectedSlurm]:
    """Run a cluster with our hooks; `hook_lines` belong to slurm.conf. No sender runs yet."""
    directory = Path(tempfile.mkdtemp(prefix="ccapi-slurm-"))
    directory.chmod(0o755)
    site_directory, slurm_directory = directory / "site", directory / "slurm"
    site_directory.mkdir()
    slurm_directory.mkdir()
    site = install(site_directory, tokens.create(database, name, Role.WRITER), "slurm")
    lines = f"{_PROLOG if hook_lines else ''}{hook_lines}"
    extra = lines.format(hooks=site.hooks, slurm=slurm_directory)
    if "filetxt" in extra:
        (slurm_directory / "ended").touch()
        shutil.chown(slurm_directory / "ended", "slurm")
    try:
        with cluster.slurm(slurm_directory, name, extra, accounting) as running:
            connected = ConnectedSlurm(running, site, service)
            connected.configure()
            yield connected
    finally:
        shutil.rmtree(directory)
