"""The spool directory: events in their order, what runs, what the registry refused.

new/    whole events, named TIME-JOBID-KIND by the hooks
tmp/    events that hooks are writing
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

from ccapi_slurm.endings import Ending

_ABANDONED_SECONDS = 3600
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
        return sorted(_names(self.new), key=_order)

    def dead_letters(self) -> list[str]:
        """Name the events that the registry refused, oldest first."""
        names = [name for name in _names(self.dead) if not name.endswith(".answer")]
        return sorted(names, key=_order)

    def read(self, name: str) -> bytes:
        """Return an event."""
        return (self.new / name).read_bytes()

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
        """Remove what killed hooks left, and runs that ended long ago."""
        for name in _names(self.tmp):
            if _age(self.tmp / name) > _ABANDONED_SECONDS:
                _remove(self.tmp / name)
        for name in _names(self.jobs):
            over = _load(self.jobs / name)[2:] != [0]
            if over and _age(self.jobs / name) > _ABANDONED_SECONDS:
                _remove(self.jobs / name)


def written_time(name: str) -> float:
    """Return when the hook wrote an event; 0 for a file that no hook wrote."""
    try:
        return float(name.partition("-")[0])
    except ValueError:
        return 0.0


def _order(name: str) -> tuple[float, str]:
    return written_time(name), name


def job_of(name: str) -> str:
    """Return the job that an event is about, as the file's name says."""
    return name.partition("-")[2].partition("-")[0]


def kind_of(name: str) -> str:
    """Return which hook wrote an event, as the file's name says."""
    return name.rpartition("-")[2]


def _names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(folder)]
    except FileNotFoundError:
        return []


def _age(path: Path) -> float:
    """Return the seconds since a file was written; 0 when it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0


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
