"""The spool directory: events in order, each job's last run, dead letters.

new/    events, which the hooks name JOBID-KIND-UPTIME; a file's mtime is the time of the event
tmp/    files for jobs/ and ends/ while the sender writes them
jobs/   a file per job: its last reported run
ends/   end states of epilogs in new/ and dead/, saved before Slurm forgets the jobs
dead/   rejected events, each with the reason in a file NAME.answer
lost/   what hooks could not write: a file per cause, a byte per event
full    exists while hooks find the spool full
outage  why events wait now, for --status
counters  what went wrong so far
lock    locked by the running sender
check   what became of the test event of `ccapi-slurm install --check`: its number, what is wrong
attempt the event that the sender has been reading for long; remains if that kills the sender
"""

import contextlib
import fcntl
import json
import os
import signal
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

from ccapi_slurm import event
from ccapi_slurm.end_states import EndState
from ccapi_slurm.event import BrokenEvent, Event

_ABANDONED_SECONDS = 3600
_MAX_HOOK_SECONDS = 60
_MAX_HALF_BYTES = 2 * 1024 * 1024
_FOLDERS = ("new", "tmp", "jobs", "ends", "dead")
_REASON_SUFFIX = ".answer"
_MAX_ATTEMPT_CPU_SECONDS = 0.2
_LOCK_ATTEMPTS, _LOCK_INTERVAL = 10, 0.1
# spool.sh has these words as well.
LOST_CAUSES = ("full", "space", "missing", "write")


class Run(NamedTuple):
    """A run of a job that ccapi has registered; `stop_time` is 0 until the run ends.

    `is_exact` is false if ccapi had registered the run before, perhaps with another start time.
    `hosts` is Slurm's list of the hosts that ccapi has.
    """

    start_time: int
    is_exact: bool
    stop_time: int = 0
    hosts: str = ""


class SpoolError(Exception):
    """The spool is not usable; the message says why."""


class Spool:
    """A spool in a directory.

    Hooks count lost events in the directory `state`, too, in case that the spool is missing.
    """

    def __init__(self, directory: Path, state: Optional[Path] = None) -> None:
        self._directory = directory
        self._lost_files = {
            cause: [directory / "lost" / cause, *([state / f"ccapi-lost-{cause}"] if state else [])]
            for cause in LOST_CAUSES
        }
        self._folders = [directory / name for name in _FOLDERS]
        self.new, self.tmp, self.jobs, self.ends, self.dead = self._folders
        self._lock = directory / "lock"
        self.outage = directory / "outage"
        self.counters = directory / "counters"
        self.check_result = directory / "check"
        self._attempt = directory / "attempt"
        # An earlier sender may have left one.
        self._has_attempt = True

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Create the spool if it is missing, and lock it.

        Raises SpoolError, also if another sender is running on it.
        """
        try:
            for folder in (self._directory, *self._folders, self._directory / "lost"):
                folder.mkdir(mode=0o700, exist_ok=True)
            lock = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise SpoolError(f"cannot use the spool: {error}") from error
        try:
            self._wait_for_lock(lock)
            yield
        finally:
            os.close(lock)

    @staticmethod
    def _wait_for_lock(lock: int) -> None:
        """Lock a file; `is_locked` of another process may hold the lock for a moment."""
        for _ in range(_LOCK_ATTEMPTS):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(_LOCK_INTERVAL)
        raise SpoolError("another sender is running on this spool")

    def is_locked(self) -> bool:
        """Return whether a sender is running on the spool; raises OSError."""
        try:
            lock = os.open(self._lock, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def check(self) -> None:
        """Check that the hooks can write events; raises SpoolError."""
        try:
            is_directory = stat.S_ISDIR(self.new.stat().st_mode)
        except FileNotFoundError:
            is_directory = False
        except OSError as error:
            raise SpoolError(f"cannot use the spool: {error}") from error
        if not is_directory:
            raise SpoolError(f"the spool {self._directory} is missing")
        if not os.access(self.new, os.R_OK | os.W_OK | os.X_OK):
            raise SpoolError(f"this user cannot write to the spool {self._directory}")

    def lost_events(self) -> dict[str, int]:
        """Return how many events hooks could not write, by cause."""
        return {
            cause: sum(_size(path) for path in paths) for cause, paths in self._lost_files.items()
        }

    def discard_lost_events(self) -> None:
        """Reset the count of lost events; raises OSError."""
        for paths in self._lost_files.values():
            for path in paths:
                _unlink(path)

    def events(self) -> list[str]:
        """Return the names of the waiting events, oldest first."""
        return _names_by_age(self.new)

    def events_of_kind(self, kind: str) -> list[str]:
        """Return the names of the waiting events of one kind, in any order."""
        return [name for name in _names(self.new) if kind_of(name) == kind]

    def dead_letters(self) -> list[str]:
        """Return the names of the dead letters, oldest first."""
        return [name for name in _names_by_age(self.dead) if not name.endswith(_REASON_SUFFIX)]

    def read(self, name: str) -> Optional[Event]:
        """Return an event; None if its hook is writing it or has removed it.

        The middle of a very long event is left out. Raises BrokenEvent.
        """
        path = self.new / name
        try:
            info = path.stat()
            if not stat.S_ISREG(info.st_mode):
                raise BrokenEvent("not a file")
            with path.open("rb") as file:
                data = file.read(_MAX_HALF_BYTES)
                file.seek(max(len(data), info.st_size - _MAX_HALF_BYTES))
                data = event.join(data, file.read(_MAX_HALF_BYTES))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BrokenEvent(f"cannot read the event: {error}") from error
        if not event.is_complete(data) and time.time() - info.st_mtime < _MAX_HOOK_SECONDS:
            return None
        return event.parse(data, info.st_mtime)

    def is_complete(self, name: str) -> bool:
        """Return whether a hook has written the whole event."""
        try:
            with (self.new / name).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - len(event.END)))
                return event.is_complete(file.read())
        except OSError:
            return False

    def oldest_seconds(self) -> float:
        """Return the age of the oldest waiting event; 0 without events."""
        return max((_age(self.new / name) for name in self.events()[:1]), default=0.0)

    def discard(self, name: str) -> None:
        """Remove an event that needs no further work."""
        (self.new / name).unlink()
        _unlink(self.ends / name)

    def dead_letter(self, name: str, reason: str) -> None:
        """Move an event to the dead letters, with the reason beside it."""
        (self.new / name).rename(self.dead / name)
        # A full disk must not keep the event in the queue.
        with contextlib.suppress(OSError):
            (self.dead / (name + _REASON_SUFFIX)).write_text(f"{reason}\n", "utf-8", "replace")

    def begin_attempt(self, name: str, number: int) -> None:
        """Record that the sender reads an event, for the `number`th time since it died of it.

        Only an event that takes long can kill the sender. So the file is written after some CPU
        time, and a sender that is stopped for another reason rarely leaves one.
        """

        def write(*_: object) -> None:
            self._has_attempt = True
            # A full disk must not keep the sender from emptying the spool.
            with contextlib.suppress(OSError):
                self._attempt.write_bytes(f"{number} {name}".encode("utf-8", "surrogateescape"))

        signal.signal(signal.SIGPROF, write)
        signal.setitimer(signal.ITIMER_PROF, _MAX_ATTEMPT_CPU_SECONDS)

    def end_attempt(self) -> None:
        """Record that the event has not killed the sender."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        if self._has_attempt:
            self._has_attempt = False
            _unlink(self._attempt)

    def crash(self) -> tuple[str, int]:
        """Return the event that an earlier sender died of, and how often; "" without one."""
        text = ""
        with contextlib.suppress(OSError):
            text = self._attempt.read_text("utf-8", "surrogateescape")
        number, _, name = text.partition(" ")
        has_crashed = number.isdigit() and (self.new / name).exists()
        return (name, int(number)) if has_crashed else ("", 0)

    def requeue(self, name: str) -> None:
        """Move a dead letter back to the waiting events."""
        (self.dead / name).rename(self.new / name)
        _unlink(self.dead / (name + _REASON_SUFFIX))

    def reason(self, name: str) -> str:
        """Return why an event is a dead letter."""
        with contextlib.suppress(OSError):
            return (self.dead / (name + _REASON_SUFFIX)).read_text("utf-8")
        return ""

    def load_run(self, job_id: int) -> Optional[Run]:
        """Return a job's last reported run."""
        values = _load(self.jobs / str(job_id))
        return Run(*values) if values else None

    def save_run(self, job_id: int, run: Run) -> None:
        """Save a job's last reported run, which its stop has to name."""
        self._save(self.jobs / str(job_id), run)

    def load_end_state(self, name: str) -> Optional[EndState]:
        """Return the saved end state of an epilog; None until it is resolved."""
        values = _load(self.ends / name)
        return EndState(*values) if values else None

    def save_end_state(self, name: str, end_state: EndState) -> None:
        """Save the end state of an epilog."""
        self._save(self.ends / name, end_state)

    def _save(self, path: Path, values: Sequence[object]) -> None:
        """Replace a file atomically."""
        draft = self.tmp / f"{path.parent.name}-{path.name}"
        draft.write_text(json.dumps(values), "ascii")
        draft.rename(path)

    def clean_up(self) -> None:
        """Remove drafts of a killed sender, and runs that ended long ago."""
        for name in _names(self.tmp):
            if _age(self.tmp / name) > _ABANDONED_SECONDS:
                _unlink(self.tmp / name)
        for name in _names(self.jobs):
            has_ended = _load(self.jobs / name)[2:3] != [0]
            if has_ended and _age(self.jobs / name) > _ABANDONED_SECONDS:
                _unlink(self.jobs / name)


def replace(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace a file atomically; raises OSError."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text, "utf-8", "replace")
    draft.chmod(mode)
    draft.rename(path)


def job_id_of(name: str) -> str:
    """Return the job id in an event's file name."""
    return name.partition("-")[0]


def kind_of(name: str) -> str:
    """Return the kind of hook in an event's file name."""
    return name.partition("-")[2].partition("-")[0]


def _names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(folder)]
    except FileNotFoundError:
        return []


def _names_by_age(folder: Path) -> list[str]:
    """Return the names of a folder's files, oldest first."""
    files = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                files.append((entry.stat(follow_symlinks=False).st_mtime, entry.name))
    return [name for _, name in sorted(files)]


def _age(path: Path) -> float:
    return time.time() - _mtime(path)


def _mtime(path: Path) -> float:
    """Return when a file was last written; now, if it no longer exists."""
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _load(path: Path) -> list[Any]:
    """Return the values in a file that `_save` wrote; [] without such a file."""
    try:
        values: list[Any] = json.loads(path.read_text("ascii"))
    except (OSError, ValueError):
        return []
    return values


def _unlink(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
