"""The spool directory: events in their order, what runs, what the registry refused.

new/    events, which the hooks name JOBID-KIND-UPTIME; they happened when they were written
tmp/    what the sender is writing for jobs/ and ends/
jobs/   one file for each job: the run of it that was reported last
ends/   how jobs ended, for events in new/ and dead/ that do not say it; Slurm soon forgets
dead/   events that the registry refused, and its answers beside them, NAME.answer
lock    held by the one sender that is at work
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

from ccapi_slurm import event
from ccapi_slurm.endings import Ending
from ccapi_slurm.event import Event

_ABANDONED_SECONDS = 3600
# No hook lives so long.
_HOOK_SECONDS = 60
_FOLDERS = ("new", "tmp", "jobs", "ends", "dead")


class Run(NamedTuple):
    """A run of a job that the registry knows; `stop_time` is 0 until it is over.

    `is_exact` is false when the registry had it before, perhaps with another start time.
    """

    start_time: int
    is_exact: bool
    stop_time: int = 0


class SpoolError(Exception):
    """The spool cannot be used; the message says why."""


class Spool:
    """A spool directory, which must exist."""

    def __init__(self, directory: Path) -> None:
        self._folders = [directory / name for name in _FOLDERS]
        self.new, self.tmp, self.jobs, self.ends, self.dead = self._folders
        self._lock = directory / "lock"

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other senders out; raises SpoolError when one is at work."""
        try:
            for folder in self._folders:
                folder.mkdir(mode=0o700, exist_ok=True)
            lock = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise SpoolError(f"cannot use the spool: {error}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise SpoolError("another sender is at work on this spool") from None
        finally:
            os.close(lock)

    def events(self) -> list[str]:
        """Name the events, oldest first."""
        return _by_age(self.new)

    def dead_letters(self) -> list[str]:
        """Name the events that the registry refused, oldest first."""
        return [name for name in _by_age(self.dead) if not name.endswith(".answer")]

    def read(self, name: str) -> Optional[Event]:
        """Return an event; None while its hook writes it or has given up. Raises BrokenEvent."""
        path = self.new / name
        written = _written(path)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        if not event.is_whole(data) and time.time() - written < _HOOK_SECONDS:
            return None
        return event.parse(data, written)

    def is_whole(self, name: str) -> bool:
        """Tell whether a hook has written all of an event."""
        try:
            return event.is_whole((self.new / name).read_bytes())
        except FileNotFoundError:
            return False

    def oldest_seconds(self) -> float:
        """Return how long the oldest event has waited."""
        return max((_age(self.new / name) for name in self.events()[:1]), default=0.0)

    def forget(self, name: str) -> None:
        """Drop an event that is dealt with."""
        (self.new / name).unlink()
        _remove(self.ends / name)

    def bury(self, name: str, answer: str) -> None:
        """Put an event and the registry's answer among the dead letters."""
        (self.dead / f"{name}.answer").write_text(answer + "\n", "utf-8")
        (self.new / name).rename(self.dead / name)

    def revive(self, name: str) -> None:
        """Make a dead letter an event again."""
        (self.dead / name).rename(self.new / name)
        with contextlib.suppress(FileNotFoundError):
            (self.dead / f"{name}.answer").unlink()

    def answer(self, name: str) -> str:
        """Return why an event is a dead letter."""
        with contextlib.suppress(OSError):
            return (self.dead / f"{name}.answer").read_text("utf-8")
        return ""

    def run(self, job_id: int) -> Optional[Run]:
        """Return the run of a job that was reported last."""
        kept = _load(self.jobs / str(job_id))
        return Run(*kept) if kept else None

    def keep_run(self, job_id: int, run: Run) -> None:
        """Keep a run, so that whatever happens its end finds it."""
        self._keep(self.jobs / str(job_id), run)

    def ending(self, name: str) -> Optional[Ending]:
        """Return how the job of an event ended, as far as it was found out."""
        kept = _load(self.ends / name)
        return Ending(*kept) if kept else None

    def keep_ending(self, name: str, ending: Ending) -> None:
        """Keep how the job of an event ended."""
        self._keep(self.ends / name, ending)

    def _keep(self, path: Path, facts: Sequence[object]) -> None:
        """Write a file as a whole or not at all."""
        draft = self.tmp / f"{path.parent.name}-{path.name}"
        draft.write_text(json.dumps(facts), "ascii")
        draft.rename(path)

    def sweep(self) -> None:
        """Remove what a killed sender left, and runs that ended long ago."""
        for name in _names(self.tmp):
            if _age(self.tmp / name) > _ABANDONED_SECONDS:
                _remove(self.tmp / name)
        for name in _names(self.jobs):
            over = _load(self.jobs / name)[2:] != [0]
            if over and _age(self.jobs / name) > _ABANDONED_SECONDS:
                _remove(self.jobs / name)


def job_of(name: str) -> str:
    """Return the job that an event is about, as the file's name says."""
    return name.partition("-")[0]


def kind_of(name: str) -> str:
    """Return which hook wrote an event, as the file's name says."""
    return name.partition("-")[2].partition("-")[0]


def _names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(folder)]
    except FileNotFoundError:
        return []


def _by_age(folder: Path) -> list[str]:
    """Name a folder's files, those first that were written first."""
    return sorted(_names(folder), key=lambda name: (_written(folder / name), name))


def _age(path: Path) -> float:
    return time.time() - _written(path)


def _written(path: Path) -> float:
    """Return when a file was written, or the time when it is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()


def _load(path: Path) -> list[Any]:
    """Read the facts that a file keeps; none when there is no such file."""
    try:
        facts: list[Any] = json.loads(path.read_text("ascii"))
    except (OSError, ValueError):
        return []
    return facts


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
