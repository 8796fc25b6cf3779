"""Take on an account, tie this process's life to its parent's, and become another program.

Run as a script: `python -I -S launch.py PARENT_PID UID GID PROGRAM [ARGUMENT...]`. It stands in for
subprocess's preexec_fn, which is not safe in a process with threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def take_account(uid: int, gid: int) -> None:
    """Give up root for the account; do nothing when it is the current one."""
    if uid != os.geteuid():
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)


def end_with(parent: int) -> None:
    """Have Linux send SIGQUIT (PostgreSQL's immediate shutdown) when the parent dies.

    A change of user clears the request, so it comes after take_account.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGQUIT), 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the command that asked for PostgreSQL is gone")


def main() -> None:
    """Do what the command line says."""
    parent, uid, gid = map(int, sys.argv[1:4])
    take_account(uid, gid)
    end_with(parent)
    os.execv(sys.argv[4], sys.argv[4:])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
