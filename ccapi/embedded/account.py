"""The operating system's user that runs the private server, because PostgreSQL refuses root."""

import os
import pwd
import sys
from dataclasses import dataclass
from pathlib import Path

from ccapi.embedded import launch
from ccapi.errors import StartupError

ROOT = 0
_SUBSTITUTES_FOR_ROOT = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """A user of the operating system."""

    name: str
    uid: int
    gid: int

    @property
    def is_current(self) -> bool:
        """Return whether this process runs as the account."""
        return self.uid == os.geteuid()

    def command(self, program: Path, *arguments: str) -> list[str]:
        """Return the command line that runs a program as the account until this process ends.

        On Linux the program also ends with the thread that starts it.
        """
        python = (sys.executable, "-I", "-S", str(Path(launch.__file__)))
        ids = (str(os.getpid()), str(self.uid), str(self.gid))
        return [*python, *ids, str(program), *arguments]

    def take_ownership(self, file: Path | int) -> None:
        """Make the account the owner of a file or directory that this process just created."""
        if self.is_current:
            return
        if isinstance(file, int):
            os.fchown(file, self.uid, self.gid)
        else:
            os.chown(file, self.uid, self.gid, follow_symlinks=False)


def server_account(data: Path) -> Account:
    """Return the account that runs a server on a data directory, which may not exist yet.

    It is the current user; for root it is the data's owner, else `postgres`, else `nobody`.
    Raises StartupError.
    """
    try:
        owner = data.stat().st_uid
    except FileNotFoundError:
        owner = None
    except OSError as error:
        raise StartupError(f"cannot use the data directory: {error}") from error
    if os.geteuid() != ROOT:
        account = _account(os.geteuid())
        if owner not in {None, account.uid}:
            raise StartupError(
                f"{data} does not belong to {account.name}: run the command as its owner or as "
                "root, or choose another directory"
            )
        return account
    if owner is not None and owner != ROOT:
        return _account(owner)
    for name in _SUBSTITUTES_FOR_ROOT:
        try:
            return _account(pwd.getpwnam(name).pw_uid)
        except KeyError:
            continue
    raise StartupError(
        "PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it: "
        "use an ordinary user"
    )


def _account(uid: int) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise StartupError(
            f"user id {uid} has no name on this machine (no entry in passwd), and PostgreSQL does "
            "not run without one: add the entry, or use another user"
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
