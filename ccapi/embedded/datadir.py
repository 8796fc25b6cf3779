"""A cluster on disk: made once, then guarded against what a crash leaves behind."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ccapi.embedded.account import ROOT, Account
from ccapi.embedded.installations import Installation
from ccapi.errors import StartupError

ROLE = "ccapi"
PORT = 5432
_BUILTIN_LOCALE_SINCE = 17
_DESCRIPTORS = Path("/proc/self/fd")
_SHARED_MEMORY_LINE = 6  # of postmaster.pid: key and id
_SHARED_MEMORY = Path("/proc/sysvipc/shm")


def environment() -> Mapping[str, str]:
    """Return this process's environment without what would steer PostgreSQL."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C"}


@contextmanager
def way_in(data: Path, account: Account) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield a name of the data directory for -D, and the descriptors a program needs for it.

    After root gave way to the account, the parents of `data` may be closed to it (as /root is);
    the link of an open descriptor in /proc leads there all the same.
    """
    if account.is_current or not _DESCRIPTORS.exists():
        yield str(data), ()
        return
    descriptor = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield str(_DESCRIPTORS / str(descriptor)), (descriptor,)
    finally:
        os.close(descriptor)


def initialise(data: Path, programs: Installation, account: Account, *, durable: bool) -> None:
    """Make the cluster under another name first, so that `data` is complete or absent."""
    unfinished = data.with_name(f"{data.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    account.take(unfinished)
    _run_initdb(unfinished, programs, account, durable=durable)
    unfinished.rename(data)


def _run_initdb(data: Path, programs: Installation, account: Account, *, durable: bool) -> None:
    options = ["--auth=peer", f"--username={ROLE}", "--encoding=UTF8", "--locale=C"]
    if programs.major >= _BUILTIN_LOCALE_SINCE:
        options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    if not durable:
        options.append("--no-sync")
    with way_in(data, account) as (name, descriptors):
        result = subprocess.run(  # noqa: S603 - the program was chosen, the arguments are ours
            account.command(programs.initdb, *options, "-D", name),
            cwd="/",
            pass_fds=descriptors,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    if result.returncode != 0:
        raise StartupError(f"{programs.initdb} failed: {result.stderr.strip()}")


def admit_owner_and_root(data: Path, account: Account) -> None:
    """Let only the server's own user and root in, both as the role ccapi."""
    names = dict.fromkeys((account.name, pwd.getpwuid(ROOT).pw_name))
    ident = "".join(f'ccapi "{name}" {ROLE}\n' for name in names)
    _replace(data / "pg_hba.conf", "local all all peer map=ccapi\n", account)
    _replace(data / "pg_ident.conf", ident, account)


def holds_shared_memory(data: Path) -> bool:
    """Tell whether processes of a server are attached to the cluster's shared memory.

    A pid alone proves nothing: it may belong to another program by now. Where there is no /proc
    the answer is False, and PostgreSQL's own check remains.
    """
    try:
        key, segment = _lines(data / "postmaster.pid")[_SHARED_MEMORY_LINE].split()
        rows = [line.split() for line in _SHARED_MEMORY.read_text("ascii").splitlines()[1:]]
    except (FileNotFoundError, IndexError):
        return False
    keys = {(int(row[0]) % 2**32, row[1]) for row in rows if int(row[6]) > 0}
    return (int(key) % 2**32, segment) in keys


def server_pid(data: Path) -> int | None:
    """Return the pid that the last server on the data left in its lock file, if it is there."""
    try:
        return int(_lines(data / "postmaster.pid")[0])
    except (FileNotFoundError, IndexError):
        return None


def disarm_stale_locks(data: Path, socket_directory: Path, account: Account) -> None:
    """Write this process's pid into lock files that a crash left behind.

    PostgreSQL refuses to start when the pid in them lives, though as another program. It ignores
    its own parent's pid, and still looks whether the shared memory is in use.
    """
    for lock in (data / "postmaster.pid", socket_directory / f".s.PGSQL.{PORT}.lock"):
        if lock.exists():
            rest = _lines(lock)[1:]
            _replace(lock, "".join(f"{line}\n" for line in (os.getpid(), *rest)), account)


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8", "surrogateescape").splitlines()


def _replace(path: Path, text: str, account: Account) -> None:
    """Write a file of the account's; root follows no link that the account may have put there."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    with unfinished.open("x", encoding="utf-8", errors="surrogateescape") as file:
        unfinished.chmod(0o600)
        file.write(text)
    account.take(unfinished)
    unfinished.replace(path)
