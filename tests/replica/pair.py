"""A primary and a streaming replica, as two servers on this machine."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from ccapi.embedded import find_installations
from ccapi.embedded.account import Account, server_account
from ccapi.embedded.installations import Installation
from tests.processes import free_port

_REPLICA = "replica"
_HOST = "127.0.0.1"


@dataclass(frozen=True)
class Server:
    """A server on a port, to which every local user may connect."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        """Return the address of the service's database."""
        return f"postgresql://ccapi@{_HOST}:{self.port}/ccapi"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every process of the server; once stopped, the first cannot fork."""
        self.process.send_signal(number)
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for pid in children.read_text("ascii").split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), number)

    def run(self, statement: str, database: str = "ccapi", user: str = "ccapi") -> object:
        """Execute one statement and return its first value, if it has one."""
        url = f"postgresql://{user}@{_HOST}:{self.port}/{database}"
        with psycopg.connect(url, autocommit=True) as conn:
            cursor = conn.execute(statement)
            row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


@dataclass(frozen=True)
class Pair:
    """A primary and its replica."""

    primary: Server
    replica: Server

    @property
    def url(self) -> str:
        """Return an address of the server that is not read-only."""
        hosts = f"{_HOST}:{self.primary.port},{_HOST}:{self.replica.port}"
        return f"postgresql://ccapi@{hosts}/ccapi?target_session_attrs=read-write"

    def be_synchronous(self) -> None:
        """Make each commit wait until the replica has written it."""
        self.primary.run(f"ALTER SYSTEM SET synchronous_standby_names = '{_REPLICA}'")
        self.primary.run("SELECT pg_reload_conf()")
        self.await_state("sync")

    def await_state(self, state: str) -> None:
        """Wait until the replica has a state in the primary's list."""
        query = "SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'"
        wait_until(lambda: self.primary.run(query) == state, f"the replica is not {state}")

    def await_replay(self) -> None:
        """Wait until the replica has replayed all commits until now."""
        at = self.primary.run("SELECT pg_current_wal_lsn()")
        reached = f"SELECT pg_last_wal_replay_lsn() >= '{at}'"
        wait_until(lambda: self.replica.run(reached) is True, "the replica does not follow")


def wait_until(condition: Callable[[], bool], problem: str, seconds: float = 30) -> None:
    """Wait until a condition is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, problem
        time.sleep(0.02)


@contextmanager
def pair() -> Iterator[Pair]:
    """Run both servers in a temporary directory."""
    directory = Path(tempfile.mkdtemp(prefix="ccapi-replica-", dir="/var/tmp"))
    directory.chmod(0o755)
    account = server_account(directory / "none")
    programs = max(find_installations(), key=lambda one: one.major)
    try:
        with ExitStack() as running:
            primary, replica = make_directory(directory / "primary", account), directory / "replica"
            options = ("--auth=trust", "--username=ccapi", "--encoding=UTF8", "--no-sync")
            run(account, programs.initdb, *options, "-D", str(primary))
            first = running.enter_context(serve(programs, account, primary))
            first.run("CREATE DATABASE ccapi", "postgres")
            source = f"host={_HOST} port={first.port} user=ccapi application_name={_REPLICA}"
            make_directory(replica, account)
            basebackup = programs.bin_dir / "pg_basebackup"
            run(account, basebackup, "-d", source, "-D", str(replica), "-RN", "-c", "fast")
            second = running.enter_context(serve(programs, account, replica))
            servers = Pair(first, second)
            servers.await_state("async")
            yield servers
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def make_directory(path: Path, account: Account) -> Path:
    """Make a private directory of the account."""
    path.mkdir(mode=0o700)
    account.take_ownership(path)
    return path


def run(account: Account, program: Path, *arguments: str) -> None:
    """Run a program of PostgreSQL as the account."""
    command = account.command(program, *arguments)
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@contextmanager
def serve(
    programs: Installation,
    account: Account,
    data: Path,
    port: int | None = None,
    *,
    user: str = "ccapi",
    database: str = "postgres",
) -> Iterator[Server]:
    """Run a server on its data, by default on any free port, until `database` answers `user`."""
    port = port or free_port()
    settings = {"listen_addresses": _HOST, "port": port, "unix_socket_directories": ""}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    command = account.command(programs.postgres, "-D", str(data), *options)
    log = os.open(data.with_suffix(".log"), os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    server = Server(subprocess.Popen(command, cwd="/", stdout=log, stderr=log), port)
    os.close(log)
    try:
        wait_until(lambda: _answers(server, database, user), f"{data.name} does not start", 60)
        yield server
    finally:
        # SIGTERM would wait until all clients are gone.
        server.process.send_signal(signal.SIGINT)
        server.process.wait(30)


def _answers(server: Server, database: str, user: str) -> bool:
    try:
        return server.run("SELECT true", database, user) is True
    except psycopg.OperationalError:
        return False
