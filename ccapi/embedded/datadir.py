"""PostgreSQL's data directory: create it, and clean up after a crash."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ccapi import atomic_file
from ccapi.embedded.account import ROOT, Account
from ccapi.embedded.installations import Installation
from ccapi.errors import StartupError

ROLE = "ccapi"
PORT = 5432
_FIRST_WITH_BUILTIN_LOCALE = 17
_DESCRIPTORS = Path("/proc/self/fd")
_SHARED_MEMORY_LINE = 6  # of postmaster.pid: key and id
_SHARED_MEMORY = Path("/proc/sysvipc/shm")


def server_environment() -> Mapping[str, str]:
    """Return this process's environment without variables that affect PostgreSQL."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**variables, "LC_ALL": "C"}


@contextmanager
def accessible_path(data: Path, account: Account) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield a path of the data directory for -D, and the descriptors that a program needs for it.

    The account may not be allowed to enter the parents of `data`, such as /root. The link of an
    open descriptor in /proc leads there all the same.
    """
    if account.is_current or not _DESCRIPTORS.exists():
        yield str(data), ()
        return
    descriptor = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield str(_DESCRIPTORS / str(descriptor)), (descriptor,)
    finally:
        os.close(descriptor)


def create(data: Path, programs: Installation, account: Account, *, durable: bool) -> None:
    """Run initdb under a temporary name, so that `data` is complete or absent."""
    temporary = data.with_name(f"{data.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700)
    account.take_ownership(temporary)
    options = ["--auth=peer", f"--username={ROLE}", "--encoding=UTF8", "--locale=C"]
    if programs.major >= _FIRST_WITH_BUILTIN_LOCALE:
        options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    if not durable:
        options.append("--no-sync")
    with accessible_path(temporary, account) as (path, descriptors):
        result = subprocess.run(  # noqa: S603 - the program was chosen, the arguments are ours
            account.command(programs.initdb, *options, "-D", path),
            cwd="/",
            pass_fds=descriptors,
            env=server_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    if result.returncode != 0:
        raise StartupError(f"{programs.initdb} failed: {result.stderr.strip()}")
    temporary.rename(data)


def restrict_access(data: Path, account: Account) -> None:
    """Allow connections of the server's user and root only, both as the role ccapi."""
    names = dict.fromkeys((account.name, pwd.getpwuid(ROOT).pw_name))
    ident = "".join(f'ccapi "{name}" {ROLE}\n' for name in names)
    _replace(data / "pg_hba.conf", "local all all peer map=ccapi\n", account)
    _replace(data / "pg_ident.conf", ident, account)


def is_in_use(data: Path) -> bool:
    """Return whether a server's processes are attached to the shared memory of the data.

    The pid in the lock file may belong to another program by now. Without /proc the result is
    False, and PostgreSQL's own check remains.
    """
    try:
        key, segment = _lines(data / "postmaster.pid")[_SHARED_MEMORY_LINE].split()
        rows = [line.split() for line in _SHARED_MEMORY.read_text("ascii").splitlines()[1:]]
    except (FileNotFoundError, IndexError):
        return False
    attached = {(int(row[0]) % 2**32, row[1]) for row in rows if int(row[6]) > 0}
    return (int(key) % 2**32, segment) in attached


def server_pid(data: Path) -> int | None:
    """Return the pid in the lock file of the data, if there is one."""
    try:
        return int(_lines(data / "postmaster.pid")[0])
    except (FileNotFoundError, IndexError):
        return None


def take_over_stale_locks(data: Path, socket_directory: Path, account: Account) -> None:
    """Write this process's pid into lock files that a crash left behind.

    PostgreSQL refuses to start if the pid in them is alive, even as another program. It ignores
    the pid of its own parent, and still checks the shared memory.
    """
    for lock in (data / "postmaster.pid", socket_directory / f".s.PGSQL.{PORT}.lock"):
        if lock.exists():
            rest = _lines(lock)[1:]
            _replace(lock, "".join(f"{line}\n" for line in (os.getpid(), *rest)), account)


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8", "surrogateescape").splitlines()


def _replace(path: Path, text: str, account: Account) -> None:
    """Replace a file of the account; root follows no link that the account may have put there."""
    with atomic_file.create_at(path, mode=0o600) as file:
        account.take_ownership(file.fileno())
        file.write(text.encode("utf-8", "surrogateescape"))
