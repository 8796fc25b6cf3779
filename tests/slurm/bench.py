"""A real Slurm, connected to a real service as the README says."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccapi.model.token import Role
from ccapi.db.pool import Database
from ccapi.service import tokens
from tests.processes import Service
from tests.slurm import cluster
from tests.slurm.cluster import Slurm
from tests.slurm.site import Site, install, jobs

EPILOG = "EpilogSlurmctld={hooks}/epilog\nJobCompType=jobcomp/filetxt\nJobCompLoc={slurm}/ended"
JOBCOMP = "JobCompType=jobcomp/script\nJobCompLoc={hooks}/jobcomp"
BOTH = f"EpilogSlurmctld={{hooks}}/epilog\n{JOBCOMP}"
_PROLOG = "PrologSlurmctld={hooks}/prolog\n"


@dataclass(frozen=True)
class Bench:
    """A cluster, its connection, and the service that it is connected to."""

    slurm: Slurm
    site: Site
    service: Service

    def jobs(self) -> list[dict[str, Any]]:
        """Return the cluster's jobs in the registry, in the order of their registration."""
        found = jobs(self.service, self.site)
        return [job for job in found if job["cluster"] == self.slurm.name]

    def lives(self, job_id: int) -> list[dict[str, Any]]:
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
        """Wait until Slurm's queue is empty and so many jobs have ended in the registry."""
        self.slurm.wait(lambda: not self.slurm.queue(), seconds, "the queue does not empty")
        self.slurm.wait(
            lambda: sum(job["jobState"] != "running" for job in self.jobs()) >= count,
            seconds,
            f"{count} ended jobs are expected",
        )


@contextlib.contextmanager
def bench(name: str, service: Service, database: Database, lines: str) -> Iterator[Bench]:
    """Run a cluster whose hooks and sender are those of ours; the sender is not started."""
    directory = Path(tempfile.mkdtemp(prefix="ccapi-slurm-"))
    directory.chmod(0o755)
    place, own = directory / "site", directory / "slurm"
    place.mkdir()
    own.mkdir()
    site = install(place, tokens.create(database, name, Role.WRITER), "slurm")
    extra = f"{_PROLOG if lines else ''}{lines}".format(hooks=site.hooks, slurm=own)
    if "filetxt" in extra:
        (own / "ended").touch()
        shutil.chown(own / "ended", "slurm")
    try:
        with cluster.slurm(own, name, extra) as running:
            made = Bench(running, site, service)
            made.configure()
            yield made
    finally:
        shutil.rmtree(directory)
