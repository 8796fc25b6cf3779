"""A series of injections: its database, archive, services and clients."""

import os
import random
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
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
from tests.faults.gunicorn_process import Gunicorn
from tests.faults.ledger import Attempt, Ledger
from tests.pgbouncer import Pooler
from tests.processes import clean_environment

_ROOT = Path(__file__).resolve().parent.parent.parent
LIMITS = Limits(
    pool_size=2, connect_timeout=1, pool_timeout=1, statement_timeout=1.5, lock_timeout=0.8
)
# The service waits a second beyond its timeouts for a server that does not answer.
GRACE_SECONDS = 1
_FINISH_SECONDS = 90
_RECOVERY_SECONDS = 20
LOAD_SECONDS = 1_800


@dataclass(frozen=True)
class Setup:
    """The services and clients of a series; a pooler is in front of PostgreSQL if `is_pooled`."""

    limits: Limits = LIMITS
    workers: int = 4
    services: int = 1
    gunicorn: tuple[str, ...] = ()
    threads: int = 8
    twins: int = 1
    client_timeout: float = 10
    archive: str = "job-archive"
    settings: Mapping[str, str] = field(default_factory=dict)
    # A program that runs gunicorn, and its arguments.
    wrapper: tuple[str, ...] = ()
    is_pooled: bool = False


class Strike(NamedTuple):
    """One injection: its begin, its end, and how long the recovery took."""

    begin: float
    healed: float
    recovery: float | None


@dataclass
class Series:
    """A running series; `planted` are paths of runs in which a fault left an obstacle."""

    postgres: PrivatePostgres
    directory: Path
    database: str
    setup: Setup
    services: list[Gunicorn] = field(default_factory=list)
    strikes: list[Strike] = field(default_factory=list)
    clients: list[subprocess.Popen[bytes]] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    planted: set[Path] = field(default_factory=set)
    pooler: Pooler | None = None

    def __post_init__(self) -> None:
        self.url = self.postgres.database_url(self.database)
        self.archive = self.directory / self.setup.archive
        self.flags = self.directory / "flags"
        self.ledgers = self.directory / "ledgers"
        self.ledger = Ledger(self.ledgers)
        self.token = ""

    @property
    def service(self) -> Gunicorn:
        """Return the first service."""
        return self.services[0]

    @property
    def environment(self) -> dict[str, str]:
        """Return the settings of the services and of `ccapi`."""
        limits = vars(self.setup.limits)
        return {
            **{f"CCAPI_DATABASE_{name.upper()}": str(value) for name, value in limits.items()},
            "CCAPI_DATABASE_URL": self.pooler.url if self.pooler else self.url,
            "CCAPI_ARCHIVE_ROOT": str(self.archive),
            "FAULT_FLAGS": str(self.flags),
            **self.setup.settings,
        }

    def prepare(self) -> None:
        """Create the directories, the database and a token."""
        for directory in (self.directory, self.archive, self.flags, self.ledgers):
            directory.mkdir(exist_ok=True)
        with self.administrator() as conn:
            conn.execute(f"CREATE DATABASE {self.database}")
        database = Database(self.url)
        migrations.migrate(database)
        self.token = tokens.create(database, "clients", Role.ADMIN)
        database.close()
        if self.setup.is_pooled:
            self.pooler = Pooler(self.postgres, "transaction", 4, self.database)
            self.pooler.start()

    def start(self) -> None:
        """Start services and clients."""
        for _ in range(self.setup.services):
            self.services.append(
                Gunicorn(
                    self.directory,
                    self.environment,
                    workers=self.setup.workers,
                    options=self.setup.gunicorn,
                    wrapper=self.setup.wrapper,
                )
            )
            self.services[-1].start()
        half = self.setup.threads // 2
        for first in (0, half):
            self.clients.append(self._client(first, half))
        self.await_attempts(self.setup.threads * 2)

    def _client(self, first: int, threads: int) -> subprocess.Popen[bytes]:
        process = (str(os.getpid()), str(os.geteuid()), str(os.getegid()))
        ports = (str(service.port) for service in self.services)
        options: dict[str, object] = {
            "--directory": self.ledgers,
            "--token": self.token,
            "--seed": secrets.token_hex(4),
            "--first": first,
            "--threads": threads,
            "--twins": self.setup.twins,
            "--timeout": self.setup.client_timeout,
            "--seconds": LOAD_SECONDS,
        }
        command = [sys.executable, "-I", "-S", launch.__file__, *process, sys.executable]
        command += ["-m", "tests.faults.clients", "--ports", *ports]
        command += [str(part) for pair in options.items() for part in pair]
        log = self.directory / f"clients-{first}.log"
        with log.open("wb") as output:
            return subprocess.Popen(command, cwd=_ROOT, stdout=output, stderr=output)

    def administrator(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """Connect as an administrator, past the service's pool."""
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
        """Inject once at a random moment, heal, and wait for the recovery."""
        time.sleep(random.uniform(0.02, 0.2))
        begin = time.monotonic()
        try:
            hold()
        finally:
            heal()
        self.record_strike(begin, time.monotonic(), is_recovery)

    def record_strike(
        self,
        begin: float,
        healed: float,
        is_recovery: Callable[[Attempt], bool] = lambda attempt: attempt.is_success,
    ) -> None:
        """Record an injection, and how long after its end a request succeeds."""
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
        """Wait until a worker has taken a flag; it then dies."""
        deadline = time.monotonic() + seconds
        while (self.flags / flag).exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no worker came to {flag}")
            time.sleep(0.005)

    def await_attempts(self, count: int, seconds: float = 30) -> None:
        """Wait until the clients have made a number of further attempts."""
        target = len(self.ledger.read()) + count
        deadline = time.monotonic() + seconds
        while len(self.ledger.read()) < target:
            if time.monotonic() > deadline:
                raise TimeoutError("the clients get no answers")
            time.sleep(0.02)

    def finish(self) -> bool:
        """Let the clients finish their jobs; return whether all did in time."""
        (self.ledgers / "finish").touch()
        deadline = time.monotonic() + _FINISH_SECONDS
        all_done = True
        for client in self.clients:
            try:
                client.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                client.kill()
                client.wait()
                all_done = False
            all_done = all_done and client.returncode == 0
        self.ledger.read()
        return all_done

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `ccapi` with the settings of the series."""
        program = Path(sys.executable).with_name("ccapi")
        settings = {k: v for k, v in self.environment.items() if k != "FAULT_FLAGS"}
        return subprocess.run(
            [str(program), *arguments],
            cwd=self.directory,
            env={**clean_environment(), **settings},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def end(self) -> None:
        """End all processes and drop the database."""
        for client in self.clients:
            if client.poll() is None:
                client.kill()
                client.wait()
        for service in self.services:
            service.stop()
        if self.pooler is not None:
            self.pooler.remove()
        with self.administrator() as conn:
            conn.execute(f"DROP DATABASE IF EXISTS {self.database} WITH (FORCE)")


@contextmanager
def running(
    postgres: PrivatePostgres, directory: Path, name: str, setup: Setup
) -> Iterator[Series]:
    """Run a series; the clients send requests when the block begins."""
    series = Series(postgres, directory, name, setup)
    try:
        series.prepare()
        series.start()
        yield series
    finally:
        series.end()
