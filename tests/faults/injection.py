"""A gunicorn configuration whose workers die, or whose disk fails, when a flag file exists.

The code is the real one, with a fault before or after a step. The first worker that reaches a step
takes the flag `kill-<step>` and dies; `fail-...` and `slow-...` last as long as the file exists.
"""

import errno
import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ccapi.gunicorn_hooks import (  # noqa: F401 - gunicorn calls them
    child_exit,
    on_exit,
    on_starting,
    post_fork,
    post_request,
)

_FLAGS = Path(os.environ["FAULT_FLAGS"])


class _Current:
    """The operation that this worker performs; it performs one at a time."""

    operation = "start-up"


def post_worker_init(worker: Any) -> None:
    """Wrap the steps of the use cases, in a worker that has just loaded the application."""
    del worker
    from ccapi import atomic_file  # noqa: PLC0415 - loaded by the application before
    from ccapi.archive import writer  # noqa: PLC0415 - see above
    from ccapi.repository import jobs  # noqa: PLC0415 - see above
    from ccapi.service import archive, deletion, edits, lifecycle  # noqa: PLC0415 - see above

    vars(writer)["os"] = vars(atomic_file)["os"] = _FaultyDisk()
    _wrap(jobs, "insert", after="kill-start-uncommitted")
    _wrap(lifecycle, "start", after="kill-start-committed")
    _wrap(lifecycle, "stop_run", after="kill-stop-uncommitted")
    _wrap(
        archive,
        "archive",
        operation="stop",
        before="kill-stop-committed",
        after="kill-stop-archived",
    )
    _wrap(edits, "tag", operation="tag", after="kill-tag-committed")
    _wrap(deletion, "delete_by_id", after="kill-delete-committed")


def _wrap(
    module: Any, name: str, *, before: str = "", after: str = "", operation: str = ""
) -> None:
    real: Callable[..., Any] = getattr(module, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        outer = _Current.operation
        _Current.operation = operation or outer
        _die_at(before)
        try:
            result = real(*args, **kwargs)
        finally:
            _Current.operation = outer
        _die_at(after)
        return result

    setattr(module, name, wrapped)


def _die_at(step: str) -> None:
    if step and _is_claimed(step):
        os.kill(os.getpid(), signal.SIGKILL)


def _is_claimed(flag: str) -> bool:
    """Remove a flag; of several workers, one succeeds."""
    try:
        (_FLAGS / flag).unlink()
    except OSError:
        return False
    return True


class _FaultyDisk:
    """A replacement for `os` in the writers of the archive and of files."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fdopen(self, descriptor: int, mode: str) -> Any:
        """Open a file; the worker may die when it is half written."""
        file = os.fdopen(descriptor, mode)
        real = file.write

        def write(data: bytes) -> int:
            if _is_claimed(f"kill-{_Current.operation}-half-written"):
                real(data[: len(data) // 2])
                file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            return real(data)

        return _File(file, write)

    def fsync(self, descriptor: int) -> None:
        """Sync, late or not at all."""
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        if _Current.operation != "start-up":
            _sleep_if_slow("slow-fsync")
            if (_FLAGS / ("fail-fsync" if is_file else "fail-directory-fsync")).exists():
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fsync(descriptor)
        if is_file:
            _die_at(f"kill-{_Current.operation}-written")

    def rename(self, *args: Any, **kwargs: Any) -> None:
        """Rename, or fail."""
        if (_FLAGS / "fail-rename").exists():
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.rename(*args, **kwargs)  # noqa: PTH104 - this replaces os.rename
        _die_at(f"kill-{_Current.operation}-renamed")


class _File:
    """A file with another `write`."""

    def __init__(self, file: Any, write: Callable[[bytes], int]) -> None:
        self._file, self.write = file, write

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _sleep_if_slow(flag: str) -> None:
    try:
        seconds = float((_FLAGS / flag).read_text("ascii"))
    except (OSError, ValueError):
        return
    time.sleep(seconds)
