"""The private server's life: start or attach, answer, stop."""

import fcntl
import hashlib
import os
import signal
import stat
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Self
from urllib.parse import quote

import psycopg
from psycopg.pq import PGconn, Ping

from ccapi.embedded import datadir
from ccapi.embedded.account import Account, server_account
from ccapi.embedded.installations import (
    Installation,
    choose_installation,
    data_version,
    find_installations,
    runnable_by_all,
)
from ccapi.errors import StartupError

DATABASE = "ccapi"
DATA = "data"
LOG = "postgresql.log"
_LONGEST_SOCKET_PATH = 100
_CONNECT_SECONDS = 5
_START_SECONDS = 60
_POLL_SECONDS = 0.02
_LOG_LINES = 6
_SHUTDOWN = ((signal.SIGINT, 30), (signal.SIGQUIT, 10), (signal.SIGKILL, 10))
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class PrivatePostgres:
    """A PostgreSQL server on `directory`/data, reached through a Unix socket only.

    A second one on the same directory attaches to the first one's server (`owned` is False) and
    loses it when the first one stops. The server ends with the thread that started it.
    """

    def __init__(
        self,
        directory: Path,
        installation: Installation,
        *,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory.resolve()
        self.installation = installation
        self._durable = durable
        self._settings = dict(settings or {})
        self._data = self.directory / DATA
        self._account = server_account(self._data)
        self._socket_directory = _socket_directory(self._data, self._account)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return libpq's address of the database `ccapi`."""
        return self.database_url(DATABASE)

    def database_url(self, name: str) -> str:
        """Return libpq's address of a database of this server, which need not exist."""
        host = quote(str(self._socket_directory))
        return (
            f"postgresql://{datadir.ROLE}@/{quote(name, safe='')}?host={host}&port={datadir.PORT}"
        )

    @property
    def owned(self) -> bool:
        """Tell whether this object started the server, and will stop it."""
        return self._process is not None

    @property
    def pid(self) -> int | None:
        """Return the server's process id; before start() it may be one that a crash left behind."""
        return self._process.pid if self._process else datadir.server_pid(self._data)

    def __enter__(self) -> Self:
        """Start the server."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server if it is owned."""
        self.stop()

    def start(self) -> None:
        """Return when the database `ccapi` accepts connections; raise StartupError if it cannot."""
        if self.owned:
            return
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with _locked(self.directory):
                self._start_or_attach()
        except OSError as error:
            raise StartupError(f"cannot run PostgreSQL in {self.directory}: {error}") from error

    def stop(self) -> None:
        """End the server if this object started it; its clients are disconnected."""
        process, self._process = self._process, None
        if process is None:
            return
        for number, seconds in _SHUTDOWN:
            process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
                break
        if self._socket_directory != self._data:
            with suppress(OSError):
                self._socket_directory.rmdir()

    def _start_or_attach(self) -> None:
        if self._socket_directory != self._data:
            _make_private(self._socket_directory, self._account)
        if not self._is_served():
            self._launch(self._programs())
        try:
            self._await_database()
        except BaseException:
            self.stop()
            raise

    def _is_served(self) -> bool:
        """Tell whether a server answers; wait for one that is starting or ending."""
        address = f"{self.url}&connect_timeout={_CONNECT_SECONDS}".encode()
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            answer = PGconn.ping(address)
            if answer == Ping.OK:
                return True
            if answer != Ping.REJECT and not datadir.holds_shared_memory(self._data):
                return False
            time.sleep(_POLL_SECONDS)
        raise StartupError(
            f"process {self.pid} uses {self._data} but does not answer: end it and try again"
        )

    def _programs(self) -> Installation:
        if self._account.is_current:
            return self.installation
        return runnable_by_all(self.installation)

    def _launch(self, programs: Installation) -> None:
        if data_version(self._data) is None:
            datadir.initialise(self._data, programs, self._account, durable=self._durable)
        datadir.admit_owner_and_root(self._data, self._account)
        datadir.disarm_stale_locks(self._data, self._socket_directory, self._account)
        with (
            self._new_log() as log,
            datadir.way_in(self._data, self._account) as (name, descriptors),
        ):
            self._process = subprocess.Popen(  # noqa: S603 - the program was chosen by us
                self._account.command(programs.postgres, "-D", name, *self._options()),
                cwd="/",
                pass_fds=descriptors,
                env=datadir.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _options(self) -> Iterator[str]:
        # A name relative to the data needs no way through the parents, and has no length.
        here = self._socket_directory == self._data
        settings = {
            "listen_addresses": "",
            "port": str(datadir.PORT),
            "unix_socket_directories": "." if here else str(self._socket_directory),
            **({} if self._durable else _NOT_DURABLE),
            **self._settings,
        }
        for name, value in settings.items():
            yield from ("-c", f"{name}={value}")

    def _await_database(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                return self._ensure_database()
            except psycopg.OperationalError as error:
                ended = self._process is not None and self._process.poll() is not None
                if not self.owned or ended or time.monotonic() > deadline:
                    raise StartupError(self._failure(error)) from error
            time.sleep(_POLL_SECONDS)

    def _ensure_database(self) -> None:
        address = self.database_url("postgres")
        with psycopg.connect(address, autocommit=True, connect_timeout=_CONNECT_SECONDS) as conn:
            known = conn.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE])
            if known.rowcount == 0:
                conn.execute("CREATE DATABASE ccapi")

    def _failure(self, error: psycopg.OperationalError) -> str:
        if not self.owned:
            return f"the PostgreSQL server that runs in {self.directory} refuses: {error}"
        log = self.directory / LOG
        last = log.read_text("utf-8", "replace").splitlines()[-_LOG_LINES:]
        return "\n  ".join((f"PostgreSQL does not start; its log {log} ends with:", *last))

    def _new_log(self) -> BinaryIO:
        """Begin a log; the one before it is kept as postgresql.log.old."""
        log = self.directory / LOG
        with suppress(FileNotFoundError):
            log.replace(log.with_name(f"{LOG}.old"))
        log.touch(mode=0o600, exist_ok=False)
        self._account.take(log)
        return log.open("ab")


def private_postgres(
    directory: Path,
    *,
    extra: Iterable[Path] = (),
    durable: bool = True,
    settings: Mapping[str, str] | None = None,
) -> PrivatePostgres:
    """Return a server for the directory, not started, with the first installation that fits."""
    data = directory.resolve() / DATA
    server_account(data)  # says whose the data is, where reading its version would just fail
    installation = choose_installation(data, find_installations(extra))
    return PrivatePostgres(directory, installation, durable=durable, settings=settings)


def _socket_directory(data: Path, account: Account) -> Path:
    """Return the data directory, or one in /tmp when libpq could not take that as a host."""
    longest = os.fsencode(data / f".s.PGSQL.{datadir.PORT}.lock")
    if len(longest) <= _LONGEST_SOCKET_PATH and b"," not in longest:
        return data
    digest = hashlib.sha256(os.fsencode(data)).hexdigest()
    return Path("/tmp") / f"ccapi-{account.uid}-{digest[:12]}"  # noqa: S108 - see _make_private


def _make_private(directory: Path, account: Account) -> None:
    """Make a directory that only the account can enter; refuse one that somebody else made."""
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
        account.take(directory)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != account.uid or status.st_mode & 0o077:
        raise StartupError(f"{directory} is not a private directory of {account.name}: remove it")


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Let one process at a time start a server in the directory, and write its entries to disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
