"""Who runs the private server: PostgreSQL refuses to run as root."""

import os
import pwd
import sys
from dataclasses import dataclass
from pathlib import Path

from ccapi.embedded import launch
from ccapi.errors import StartupError

ROOT = 0
_STAND_INS_FOR_ROOT = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """A user of the operating system."""

    name: str
    uid: int
    gid: int

    @property
    def is_current(self) -> bool:
        """Tell whether this process runs as the account already."""
        return self.uid == os.geteuid()

    def command(self, program: Path, *arguments: str) -> list[str]:
        """Return the command line that runs a program as the account, to end with this process.

        Linux counts the thread that runs it as the parent: when the thread ends, so does the
        program.
        """
        python = (sys.executable, "-I", "-S", str(Path(launch.__file__)))
        who = (str(os.getpid()), str(self.uid), str(self.gid))
        return [*python, *who, str(program), *arguments]

    def take(self, path: Path) -> None:
        """Make the account the owner of a file or directory that this process just created."""
        if not self.is_current:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def server_account(data: Path) -> Account:
    """Return the account for a server on the data directory, which need not exist yet.

    An ordinary user is that account. Root gives way to the data's owner, else `postgres`, else
    `nobody`.
    """
    owner = _owner(data)
    if os.geteuid() != ROOT:
        return _ordinary_account(data, owner)
    if owner not in {None, ROOT}:
        return _by_uid(owner)
    return _stand_in_for_root()


def _owner(data: Path) -> int | None:
    try:
        return data.stat().st_uid
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StartupError(f"cannot use the data directory: {error}") from error


def _ordinary_account(data: Path, owner: int | None) -> Account:
    me = _by_uid(os.geteuid())
    if owner not in {None, me.uid}:
        raise StartupError(
            f"{data} does not belong to {me.name}: run the command as its owner or as root, "
            "or choose another directory"
        )
    return me


def _by_uid(uid: int | None) -> Account:
    try:
        entry = pwd.getpwuid(-1 if uid is None else uid)
    except KeyError:
        raise StartupError(
            f"user id {uid} has no name on this machine (no entry in passwd), and PostgreSQL does "
            "not run without one: add the entry, or use another user"
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _stand_in_for_root() -> Account:
    for name in _STAND_INS_FOR_ROOT:
        try:
            return _by_uid(pwd.getpwnam(name).pw_uid)
        except KeyError:
            continue
    raise StartupError(
        "PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it: "
        "use an ordinary user"
    )
