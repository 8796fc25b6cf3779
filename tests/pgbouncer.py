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


@contextmanager
def pgbouncer(postgres: PrivatePostgres, mode: str, connections: int) -> Iterator[str]:
    """Start a pooler with so many connections to the server, and return the database's URL."""
    port = free_port()
    owner = server_account(Path("/nonexistent"))
    directory = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    owner.take_ownership(directory)
    server = psycopg.conninfo.conninfo_to_dict(postgres.url)
    where = f"host={server['host']} port={server['port']} dbname=ccapi"
    settings = directory / "pgbouncer.ini"
    text = _SETTINGS.format(
        server=where, port=port, mode=mode, connections=connections, directory=directory
    )
    settings.write_text(text, "utf-8")
    process = subprocess.Popen(
        owner.command(PROGRAM, "-q", str(settings)), stderr=subprocess.DEVNULL
    )
    url = f"postgresql://ccapi@127.0.0.1:{port}/ccapi"
    try:
        _await(url)
        yield url
    finally:
        process.kill()
        process.wait(30)
        shutil.rmtree(directory)


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
