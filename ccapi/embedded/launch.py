"""Change to an account, tie this process's life to its parent's, and execute another program.

Run as a script: `python -I -S launch.py PARENT_PID UID GID PROGRAM [ARGUMENT...]`. It replaces
subprocess's preexec_fn, which is not safe in a process with threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Do what the command line says.

    Linux sends SIGQUIT, PostgreSQL's immediate shutdown, when the parent dies. A change of the
    user cancels that request, so it comes afterwards.
    """
    parent, uid, gid = map(int, sys.argv[1:4])
    if uid != os.geteuid():
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGQUIT), 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the process that started PostgreSQL is gone")
    os.execv(sys.argv[4], sys.argv[4:])  # noqa: S606 - without a shell


if __name__ == "__main__":
    main()
