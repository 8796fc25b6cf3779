"""Run Debian's pgbouncer before the tests' PostgreSQL."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from ccapi.embedded import PrivatePostgres
from ccapi.embedded.account import server_account
from tests.processes import free_port

PROGRAM = Path("/usr/sbin/pgbouncer")
needs_pgbouncer = pytest.mark.skipif(
    not PROGRAM.exists(), reason="no pgbouncer here: apt-get install pgbouncer"
)
_SETTINGS = """
[databases]
ccapi = {server} user=ccapi
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {connections}
logfile = {directory}/log
"""


class Pooler:
    """A pgbouncer with so many connections to the server; `url` is that of its database."""

    def __init__(
        self, postgres: PrivatePostgres, mode: str, connections: int, database: str = "ccapi"
    ) -> None:
        port = free_port()
        self.url = f"postgresql://ccapi@127.0.0.1:{port}/ccapi"
        self._owner = server_account(Path("/nonexistent"))
        self._directory = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
        self._owner.take_ownership(self._directory)
        server = psycopg.conninfo.conninfo_to_dict(postgres.url)
        self._settings = self._directory / "pgbouncer.ini"
        text = _SETTINGS.format(
            server=f"host={server['host']} port={server['port']} dbname={database}",
            port=port,
            mode=mode,
            connections=connections,
            directory=self._directory,
        )
        self._settings.write_text(text, "utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait for the first connection."""
        self._process = subprocess.Popen(
            self._owner.command(PROGRAM, "-q", str(self._settings)), stderr=subprocess.DEVNULL
        )
        _await(self.url)

    def kill(self) -> None:
        """Kill -9 it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)

    def remove(self) -> None:
        """Kill it, and remove its files."""
        if self._process is not None:
            self.kill()
        shutil.rmtree(self._directory)


@contextmanager
def pgbouncer(postgres: PrivatePostgres, mode: str, connections: int) -> Iterator[str]:
    """Run a pooler, and return the database's URL."""
    pooler = Pooler(postgres, mode, connections)
    try:
        pooler.start()
        yield pooler.url
    finally:
        pooler.remove()


def _await(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
