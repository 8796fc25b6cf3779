"""Sites and their hub, made by the commands of docs/scale.rst, each on a PostgreSQL of its own."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ccapi.db.pool import Database
from ccapi.embedded import find_installations
from ccapi.embedded.account import Account, server_account
from ccapi.embedded.installations import Installation, accessible_to_all
from ccapi.model.token import Role
from ccapi.service import tokens
from tests.console import Block, assert_answers, outputs, script, split, steps
from tests.processes import clean_environment, gunicorn
from tests.replica.pair import Server, make_directory, run, serve, wait_until

ROOT = Path(__file__).resolve().parent.parent.parent
GUIDE = split((ROOT / "docs" / "scale.rst").read_text("utf-8"))
_ADMINISTRATOR = "postgres"


@dataclass
class Host:
    """A machine of the guide with PostgreSQL and ccapi; the hub has the number 0."""

    number: int
    directory: Path
    programs: Installation
    owner: Account
    running: ExitStack
    server: Server = field(init=False)
    tokens: dict[Role, str] = field(default_factory=dict)
    url: str = ""

    @property
    def name(self) -> str:
        """Return the name of its data's directory."""
        return f"site{self.number}" if self.number else "hub"

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of its commands."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        config = str(self.directory / f"{self.name}.toml")
        return {**clean_environment(), "PATH": path, "CCAPI_CONFIG": config, "PGAPPNAME": "test"}

    def create(self) -> None:
        """Create its database, and the settings of an installation."""
        data = make_directory(self.directory / self.name, self.owner)
        options = ("--auth=trust", f"--username={_ADMINISTRATOR}", "--encoding=UTF8", "--no-sync")
        run(self.owner, self.programs.initdb, *options, "-D", str(data))
        with (data / "postgresql.conf").open("a") as settings:
            settings.write("fsync = off\n")
        (data / "pg_hba.conf").write_text("host all,replication all 127.0.0.1/32 trust\n")
        self.start_server(is_ready="template1")
        self.sql("CREATE ROLE ccapi LOGIN", "template1")
        self.sql("CREATE DATABASE ccapi OWNER ccapi", "template1")
        archive = self.directory / f"{self.name}-archive"
        (self.directory / f"{self.name}.toml").write_text(
            f'[database]\nurl = "{self.server.url}"\n[archive]\nroot = "{archive}"\n'
            "[jobs]\nlist_cache_seconds = 0\n"
        )

    def start_server(self, is_ready: str = "ccapi") -> None:
        """Start PostgreSQL, on its former port if it has one."""
        port = self.server.port if hasattr(self, "server") else None
        context = serve(
            self.programs,
            self.owner,
            self.directory / self.name,
            port,
            user=_ADMINISTRATOR,
            database=is_ready,
        )
        self.server = self.running.enter_context(context)

    def kill_server(self) -> None:
        """Kill PostgreSQL as a power failure does."""
        self.server.process.kill()
        self.server.process.wait()

    def restart_server(self) -> None:
        """Restart PostgreSQL."""
        self.server.process.send_signal(signal.SIGINT)
        self.server.process.wait(60)
        self.start_server()

    def sql(self, statement: str, database: str = "ccapi") -> Any:
        """Execute a statement as PostgreSQL's administrator; return its first value."""
        return self.server.run(statement, database, _ADMINISTRATOR)

    def follow(self, text: str, site: "Host | None" = None) -> None:
        """Run the commands of a section, or of its text, and compare their answers."""
        text = GUIDE.get(text, text)
        for there, here in self._replacements(site or self).items():
            text = re.sub(there, here, text)
        blocks = steps(text)
        assert blocks, text
        assert_answers(blocks, self.run_blocks(blocks))

    def run_blocks(self, blocks: list[Block], **variables: str) -> list[str]:
        """Run blocks in one shell, as a reader pastes them, and return each one's output."""
        done = subprocess.run(
            ["bash", "-c", f"exec 2>&1\n{script(blocks)}"],
            cwd=self.directory,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return outputs(done.stdout)

    def _replacements(self, site: "Host") -> dict[str, str]:
        psql = f"psql '{self.server.url.replace('ccapi@', _ADMINISTRATOR + '@', 1)}' "
        return {
            r"\(cd / && runuser -u postgres -- psql (.*) --dbname=ccapi\)": psql + r"\1",
            "systemctl restart postgresql": "true",
            "/etc/ccapi/config.toml": self.environment["CCAPI_CONFIG"],
            r"host=db1\.example\.org": f"host=127.0.0.1 port={site.server.port}",
            r"site = 1\b": f"site = {site.number}",
            r"\bsite 1\b": f"site {site.number}",
            r"\bsite1\b": f"site{site.number}",
            r"remove_site\(1\)": f"remove_site({site.number})",
        }

    def serve(self) -> None:
        """Start ccapi, with a token for each role."""
        database = Database(self.server.url)
        self.tokens = {role: tokens.create(database, role.value, role) for role in Role}
        database.close()
        logs = self.directory / f"{self.name}-log"
        logs.mkdir()
        variables = {"CCAPI_CONFIG": self.environment["CCAPI_CONFIG"]}
        self.url = self.running.enter_context(gunicorn(variables, logs, workers=2)).url

    def send(
        self, path: str, body: Any = None, *, role: Role = Role.ADMIN, method: str | None = None
    ) -> tuple[int, bytes]:
        """Send a request and return status and body; status 0 means that there was no answer."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        headers = {"X-Auth-Token": self.tokens[role]}
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""

    def jobs(self, query: str = "") -> dict[int, dict[str, Any]]:
        """Return the jobs of a list by their ids, tags without ids; none if it fails."""
        status, body = self.send(f"/?items-per-page=1000000&{query}", role=Role.READER)
        jobs = {}
        for job in json.loads(body)["jobs"] if status == 200 else ():
            if job["jobState"] == "running":
                del job["duration"]
            assert job["id"] not in jobs
            jobs[job["id"]] = job
        return jobs


@dataclass
class Federation:
    """Some sites and their hub."""

    sites: list[Host]
    hub: Host

    def union(self, query: str = "") -> dict[int, dict[str, Any]]:
        """Return the jobs of all sites."""
        union: dict[int, dict[str, Any]] = {}
        for site in self.sites:
            jobs = site.jobs(query)
            assert not union.keys() & jobs.keys()
            union |= jobs
        return union

    def await_copies(self) -> None:
        """Wait until the hub follows all sites."""
        followed = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate = 'r'"
        tables = "SELECT count(*) FROM pg_publication_tables"
        expected = sum(site.sql(tables) for site in self.sites)
        wait_until(lambda: self.hub.sql(followed) == expected, "the hub copies no tables", 120)

    def await_equality(self, seconds: float = 60) -> None:
        """Wait until the hub has the jobs of all sites."""
        wait_until(lambda: self.hub.jobs() == self.union(), "the hub differs", seconds)


@contextmanager
def federation(number: int) -> Iterator[Federation]:
    """Make so many sites and a hub as the guide says, in a temporary directory."""
    directory = Path(tempfile.mkdtemp(prefix="ccapi-hub-", dir="/var/tmp"))
    directory.chmod(0o755)
    owner = server_account(directory / "none")
    programs = max(find_installations(), key=lambda one: one.major)
    if not owner.is_current:
        programs = accessible_to_all(programs)
    try:
        with ExitStack() as running:
            hub, *sites = [
                Host(site, directory, programs, owner, running) for site in range(number + 1)
            ]
            for host in (hub, *sites):
                host.create()
                host.follow("Make a site" if host.number else "Make the hub")
                host.restart_server()
            for site in sites:
                hub.follow("Add a site to the hub", site)
            made = Federation(sites, hub)
            made.await_copies()
            for host in (hub, *sites):
                host.serve()
            yield made
    finally:
        shutil.rmtree(directory, ignore_errors=True)
