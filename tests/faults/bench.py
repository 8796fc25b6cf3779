"""What a series runs on: a database, an archive, one or two services, and their clients."""

import os
import random
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from ccapi.db import migrations
from ccapi.db.pool import Database, Limits
from ccapi.embedded import PrivatePostgres, launch
from ccapi.model.token import Role
from ccapi.service import tokens
from tests.faults.ledger import Attempt, Ledger
from tests.faults.processes import Gunicorn

_ROOT = Path(__file__).resolve().parent.parent.parent
LIMITS = Limits(
    pool_size=2, connect_timeout=1, pool_timeout=1, statement_timeout=1.5, lock_timeout=0.8
)
# What the service adds to its limits: a server that does not answer is given up a second later.
GRACE_SECONDS = 1
_FINISH_SECONDS = 90
_RECOVERY_SECONDS = 20
LOAD_SECONDS = 1_800


@dataclass(frozen=True)
class Setup:
    """How a series' services and clients are."""

    limits: Limits = LIMITS
    workers: int = 4
    services: int = 1
    gunicorn: tuple[str, ...] = ()
    threads: int = 8
    twins: int = 1
    client_timeout: float = 10
    archive: str = "job-archive"


class Strike(NamedTuple):
    """One injection: from when to when it held."""

    begin: float
    healed: float
    recovery: float | None


@dataclass
class Bench:
    """A running series; `planted` are runs' directories in which a fault left something."""

    postgres: PrivatePostgres
    directory: Path
    database: str
    setup: Setup
    services: list[Gunicorn] = field(default_factory=list)
    strikes: list[Strike] = field(default_factory=list)
    clients: list[subprocess.Popen[bytes]] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    planted: set[Path] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.url = self.postgres.database_url(self.database)
        self.archive = self.directory / self.setup.archive
        self.flags = self.directory / "flags"
        self.ledgers = self.directory / "ledgers"
        self.ledger = Ledger(self.ledgers)
        self.token = ""

    @property
    def service(self) -> Gunicorn:
        """Return the only service, or the first."""
        return self.services[0]

    @property
    def environment(self) -> dict[str, str]:
        """Return the settings of service and command."""
        limits = vars(self.setup.limits)
        return {
            **{f"CCAPI_DATABASE_{name.upper()}": str(value) for name, value in limits.items()},
            "CCAPI_DATABASE_URL": self.url,
            "CCAPI_ARCHIVE_ROOT": str(self.archive),
            "FAULT_FLAGS": str(self.flags),
        }

    def prepare(self) -> None:
        """Make the database and a token."""
        for directory in (self.directory, self.archive, self.flags, self.ledgers):
            directory.mkdir(exist_ok=True)
        with self.administrator() as conn:
            conn.execute(f"CREATE DATABASE {self.database}")
        database = Database(self.url)
        migrations.migrate(database)
        self.token = tokens.create(database, "clients", Role.ADMIN)
        database.close()

    def start(self) -> None:
        """Start services and clients."""
        for _ in range(self.setup.services):
            options = self.setup.gunicorn
            self.services.append(
                Gunicorn(
                    self.directory, self.environment, workers=self.setup.workers, options=options
                )
            )
            self.services[-1].start()
        half = self.setup.threads // 2
        for first in (0, half):
            self.clients.append(self._client(first, half))
        self.await_attempts(self.setup.threads * 2)

    def _client(self, first: int, threads: int) -> subprocess.Popen[bytes]:
        who = (str(os.getpid()), str(os.geteuid()), str(os.getegid()))
        ports = (str(service.port) for service in self.services)
        given: dict[str, object] = {
            "--directory": self.ledgers,
            "--token": self.token,
            "--seed": secrets.token_hex(4),
            "--first": first,
            "--threads": threads,
            "--twins": self.setup.twins,
            "--timeout": self.setup.client_timeout,
            "--seconds": LOAD_SECONDS,
        }
        command = [sys.executable, "-I", "-S", launch.__file__, *who, sys.executable]
        command += ["-m", "tests.faults.load", "--ports", *ports]
        command += [str(part) for pair in given.items() for part in pair]
        log = self.directory / f"clients-{first}.log"
        with log.open("wb") as output:
            return subprocess.Popen(command, cwd=_ROOT, stdout=output, stderr=output)

    def administrator(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """Connect beside the service."""
        return psycopg.connect(
            self.postgres.database_url(database),
            autocommit=True,
            options="-c default_transaction_read_only=off",
        )

    def strike(
        self,
        hold: Callable[[], None],
        heal: Callable[[], None] = lambda: None,
        is_recovery: Callable[[Attempt], bool] = lambda attempt: attempt.is_success,
    ) -> None:
        """Inject once at a random moment, heal, and wait until the service is well again."""
        time.sleep(random.uniform(0.02, 0.2))
        begin = time.monotonic()
        try:
            hold()
        finally:
            heal()
        self.struck(begin, time.monotonic(), is_recovery)

    def struck(
        self,
        begin: float,
        healed: float,
        is_recovery: Callable[[Attempt], bool] = lambda attempt: attempt.is_success,
    ) -> None:
        """Note an injection, and how long after its end something succeeded."""
        deadline = time.monotonic() + _RECOVERY_SECONDS
        seen = len(self.ledger.attempts)
        recovery = None
        while recovery is None and time.monotonic() < deadline:
            time.sleep(0.02)
            times = [
                attempt.answered - healed
                for attempt in self.ledger.read()[seen:]
                if attempt.answered > healed and is_recovery(attempt)
            ]
            recovery = min(times, default=None)
        self.strikes.append(Strike(begin, healed, recovery))

    def await_flag_taken(self, flag: str, seconds: float = 15) -> None:
        """Return when a worker has claimed a flag, which its death follows."""
        deadline = time.monotonic() + seconds
        while (self.flags / flag).exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no worker came to {flag}")
            time.sleep(0.005)

    def await_attempts(self, count: int, seconds: float = 30) -> None:
        """Return when the clients have had so many more answers."""
        wanted = len(self.ledger.read()) + count
        deadline = time.monotonic() + seconds
        while len(self.ledger.read()) < wanted:
            if time.monotonic() > deadline:
                raise TimeoutError("the clients get no answers")
            time.sleep(0.02)

    def finish(self) -> bool:
        """Let the clients end their jobs; tell whether all did in time."""
        (self.ledgers / "finish").touch()
        deadline = time.monotonic() + _FINISH_SECONDS
        done = True
        for client in self.clients:
            try:
                client.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                client.kill()
                client.wait()
                done = False
            done = done and client.returncode == 0
        self.ledger.read()
        return done

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the real `ccapi`."""
        program = Path(sys.executable).with_name("ccapi")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CCAPI_")}
        settings = {k: v for k, v in self.environment.items() if k != "FAULT_FLAGS"}
        return subprocess.run(
            [str(program), *arguments],
            cwd=self.directory,
            env={**kept, **settings},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def end(self) -> None:
        """Leave no process and no database behind."""
        for client in self.clients:
            if client.poll() is None:
                client.kill()
                client.wait()
        for service in self.services:
            service.stop()
        with self.administrator() as conn:
            conn.execute(f"DROP DATABASE IF EXISTS {self.database} WITH (FORCE)")


@contextmanager
def running(postgres: PrivatePostgres, directory: Path, name: str, setup: Setup) -> Iterator[Bench]:
    """Run a bench; the clients are at it already when the block begins."""
    bench = Bench(postgres, directory, name, setup)
    try:
        bench.prepare()
        bench.start()
        yield bench
    finally:
        bench.end()
