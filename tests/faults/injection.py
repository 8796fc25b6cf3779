"""A gunicorn configuration whose workers die, or whose disk fails, when a file says so.

Everything that runs is the real code; a step of it is only preceded or followed by the
fault. `kill-<step>` is claimed by the one worker that reaches the step first; `fail-...` and
`slow-...` hold as long as the file is there.
"""

import errno
import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_FLAGS = Path(os.environ["FAULT_FLAGS"])


class _Current:
    """The operation that this worker, which does one at a time, is in."""

    operation = "start-up"


def post_worker_init(worker: Any) -> None:
    """Surround the steps of the use cases, in a worker that has just loaded the application."""
    del worker
    from ccapi.archive import writer  # noqa: PLC0415 - loaded by the application before
    from ccapi.repository import jobs  # noqa: PLC0415
    from ccapi.service import archive, deletion, edits, lifecycle  # noqa: PLC0415

    vars(writer)["os"] = _FaultyDisk()
    _surround(jobs, "insert", after="kill-start-uncommitted")
    _surround(lifecycle, "start", after="kill-start-committed")
    _surround(lifecycle, "_stop", after="kill-stop-uncommitted")
    _surround(archive, "archive", before="kill-stop-committed", after="kill-stop-archived")
    _surround(archive, "_archive", operation="stop")
    _surround(edits, "tag", operation="tag", after="kill-tag-committed")
    _surround(deletion, "delete_by_id", after="kill-delete-committed")


def _surround(
    module: Any, name: str, *, before: str = "", after: str = "", operation: str = ""
) -> None:
    real: Callable[..., Any] = getattr(module, name)

    def surrounded(*args: Any, **kwargs: Any) -> Any:
        outer = _Current.operation
        _Current.operation = operation or outer
        _die_at(before)
        try:
            result = real(*args, **kwargs)
        finally:
            _Current.operation = outer
        _die_at(after)
        return result

    setattr(module, name, surrounded)


def _die_at(step: str) -> None:
    if step and _is_claimed(step):
        os.kill(os.getpid(), signal.SIGKILL)


def _is_claimed(flag: str) -> bool:
    """Take a flag away; of several workers, one succeeds."""
    try:
        (_FLAGS / flag).unlink()
    except OSError:
        return False
    return True


class _FaultyDisk:
    """What the writer of the archive sees as `os`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fdopen(self, descriptor: int, mode: str) -> Any:
        """Open a file that may be left half written."""
        file = os.fdopen(descriptor, mode)
        real = file.write

        def write(data: bytes) -> int:
            if _is_claimed(f"kill-{_Current.operation}-half-written"):
                real(data[: len(data) // 2])
                file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            return real(data)

        return _Written(file, write)

    def fsync(self, descriptor: int) -> None:
        """Make durable, late or never."""
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        if _Current.operation != "start-up":
            _sleep_if_slow("slow-fsync")
            if (_FLAGS / ("fail-fsync" if is_file else "fail-directory-fsync")).exists():
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fsync(descriptor)
        if is_file:
            _die_at(f"kill-{_Current.operation}-written")

    def rename(self, *args: Any, **kwargs: Any) -> None:
        """Rename, or not."""
        if (_FLAGS / "fail-rename").exists():
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.rename(*args, **kwargs)  # noqa: PTH104 - in place of this very function
        _die_at(f"kill-{_Current.operation}-renamed")


class _Written:
    """A file of which only `write` differs."""

    def __init__(self, file: Any, write: Callable[[bytes], int]) -> None:
        self._file, self.write = file, write

    def __enter__(self) -> "_Written":
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
