"""The private server: start it or attach to it, wait for it, stop it."""

import fcntl
import hashlib
import os
import signal
import stat
import subprocess
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self
from urllib.parse import quote

import psycopg
from psycopg.pq import PGconn, Ping

from ccapi.embedded import datadir
from ccapi.embedded.account import server_account
from ccapi.embedded.installations import (
    Installation,
    accessible_to_all,
    choose_installation,
    data_version,
    find_installations,
)
from ccapi.errors import StartupError

DATABASE = "ccapi"
DATA = "data"
LOG = "postgresql.log"
# Of a Unix socket's path, including the name; the kernel's limit is 107.
_MAX_SOCKET_PATH = 100
_CONNECT_TIMEOUT_SECONDS = 5
_START_TIMEOUT_SECONDS = 60
_POLL_SECONDS = 0.02
_LOG_LINES = 6
_SHUTDOWN = ((signal.SIGINT, 30), (signal.SIGQUIT, 10), (signal.SIGKILL, 10))
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class PrivatePostgres:
    """A PostgreSQL server on `directory`/data that listens on a Unix socket only.

    A second instance for the same directory attaches to the first one's server (`owned` is
    False), and loses it when the first one stops. The server ends with the thread that
    started it.
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
        self._socket_directory = self._data
        path = os.fsencode(self._data / f".s.PGSQL.{datadir.PORT}.lock")
        if len(path) > _MAX_SOCKET_PATH or b"," in path:  # not a valid host for libpq
            digest = hashlib.sha256(os.fsencode(self._data)).hexdigest()
            name = f"ccapi-{self._account.uid}-{digest[:12]}"
            self._socket_directory = Path("/tmp") / name  # noqa: S108 - start() makes it private
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the URL of the database `ccapi`."""
        return self.database_url(DATABASE)

    def database_url(self, name: str) -> str:
        """Return the URL of a database of this server, which may not exist."""
        host = quote(str(self._socket_directory))
        database = quote(name, safe="")
        return f"postgresql://{datadir.ROLE}@/{database}?host={host}&port={datadir.PORT}"

    @property
    def owned(self) -> bool:
        """Return whether this object started the server, and will stop it."""
        return self._process is not None

    @property
    def pid(self) -> int | None:
        """Return the server's process id; before start() it may be left over from a crash."""
        return self._process.pid if self._process else datadir.server_pid(self._data)

    def __enter__(self) -> Self:
        """Start the server."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server if it is owned."""
        self.stop()

    def start(self) -> None:
        """Start or attach; return when the database `ccapi` accepts connections.

        Several processes may do so at once: one of them starts the server. Raises StartupError.
        """
        if self.owned:
            return
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._start_or_attach()
                os.fsync(lock)  # of the entries of the directory
            finally:
                os.close(lock)
        except OSError as error:
            raise StartupError(f"cannot run PostgreSQL in {self.directory}: {error}") from error

    def stop(self) -> None:
        """Stop the server if this object started it; its clients are disconnected."""
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
        sockets = self._socket_directory
        if sockets != self._data:
            with suppress(FileExistsError):
                sockets.mkdir(mode=0o700)
                self._account.take_ownership(sockets)
            status, uid = sockets.lstat(), self._account.uid
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != uid or status.st_mode & 0o077:
                raise StartupError(
                    f"{sockets} is not a private directory of {self._account.name}: remove it"
                )
        if not self._is_running():
            self._launch()
        try:
            self._ensure_database()
        except BaseException:
            self.stop()
            raise

    def _is_running(self) -> bool:
        """Return whether a server answers; wait for one that is starting or stopping."""
        address = f"{self.url}&connect_timeout={_CONNECT_TIMEOUT_SECONDS}".encode()
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            result = PGconn.ping(address)
            if result == Ping.OK:
                return True
            if result != Ping.REJECT and not datadir.is_in_use(self._data):
                return False
            time.sleep(_POLL_SECONDS)
        raise StartupError(
            f"process {self.pid} uses {self._data} but does not answer: end it and try again"
        )

    def _launch(self) -> None:
        """Start the server, with a new log; the previous one becomes postgresql.log.old."""
        account, data = self._account, self._data
        programs = self.installation
        if not account.is_current:
            programs = accessible_to_all(programs)
        if data_version(data) is None:
            datadir.create(data, programs, account, durable=self._durable)
        datadir.restrict_access(data, account)
        datadir.take_over_stale_locks(data, self._socket_directory, account)
        log = self.directory / LOG
        with suppress(FileNotFoundError):
            log.replace(log.with_name(f"{LOG}.old"))
        log.touch(mode=0o600, exist_ok=False)
        account.take_ownership(log)
        # The data's own path may be too long, or closed to the account; "." is neither.
        sockets = "." if self._socket_directory == data else str(self._socket_directory)
        settings = {
            "listen_addresses": "",
            "port": str(datadir.PORT),
            "unix_socket_directories": sockets,
            **({} if self._durable else _NOT_DURABLE),
            **self._settings,
        }
        options = [text for key, value in settings.items() for text in ("-c", f"{key}={value}")]
        with (
            log.open("ab") as output,
            datadir.accessible_path(data, account) as (path, descriptors),
        ):
            self._process = subprocess.Popen(  # noqa: S603 - the program was chosen by us
                account.command(programs.postgres, "-D", path, *options),
                cwd="/",
                pass_fds=descriptors,
                env=datadir.server_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _ensure_database(self) -> None:
        """Wait for the server, and create the database `ccapi` if it does not exist."""
        address = self.database_url("postgres")
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        while True:
            try:
                with psycopg.connect(
                    address, autocommit=True, connect_timeout=_CONNECT_TIMEOUT_SECONDS
                ) as conn:
                    query = "SELECT FROM pg_database WHERE datname = %s"
                    if conn.execute(query, [DATABASE]).rowcount == 0:
                        conn.execute("CREATE DATABASE ccapi")
                    return
            except psycopg.OperationalError as error:
                if self._process is None:
                    raise StartupError(
                        f"the PostgreSQL server that runs in {self.directory} refuses: {error}"
                    ) from error
                if self._process.poll() is not None or time.monotonic() > deadline:
                    log = self.directory / LOG
                    lines = log.read_text("utf-8", "replace").splitlines()[-_LOG_LINES:]
                    message = f"PostgreSQL does not start; its log {log} ends with:"
                    raise StartupError("\n  ".join((message, *lines))) from error
            time.sleep(_POLL_SECONDS)


def private_postgres(
    directory: Path,
    *,
    extra: Iterable[Path] = (),
    durable: bool = True,
    settings: Mapping[str, str] | None = None,
) -> PrivatePostgres:
    """Return a server for the directory, not started, with the first installation that fits."""
    data = directory.resolve() / DATA
    server_account(data)  # its error is clearer than that of reading the data's version
    installation = choose_installation(data, find_installations(extra))
    return PrivatePostgres(directory, installation, durable=durable, settings=settings)
