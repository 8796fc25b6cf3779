"""The clients' requests and answers, a line per attempt, and what they promise."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

Key = tuple[str, int, int]
NO_ANSWER = 0


class Attempt(NamedTuple):
    """One request: operation, key of the run, times (monotonic seconds), and the answer.

    `ends` means that the client does not try again. `event` is the body of the request;
    `archived` is the monitoringStatus in the answer of a stop.
    """

    operation: str
    key: Key
    event: dict[str, Any]
    sent: float
    answered: float
    status: int
    ends: bool
    id: int | None = None
    archived: int | None = None
    text: str = ""

    @property
    def is_success(self) -> bool:
        """Return whether the service performed the operation."""
        return self.status in (200, 201)

    @property
    def is_repeated(self) -> bool:
        """Return whether an earlier attempt had performed the operation."""
        return self.ends and self.status == 422

    def line(self) -> str:
        """Return the attempt as a line of a ledger."""
        return json.dumps(self) + "\n"

    @classmethod
    def of(cls, line: str) -> "Attempt":
        """Parse a line of a ledger."""
        operation, key, *rest = json.loads(line)
        return cls(operation, (key[0], key[1], key[2]), *rest)


class Ledger:
    """The files to which the clients append, read as they grow."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._offsets: dict[Path, int] = {}
        self.attempts: list[Attempt] = []

    def read(self) -> list[Attempt]:
        """Read new lines; return all attempts so far."""
        for path in sorted(self._directory.glob("*.ledger")):
            with path.open("rb") as file:
                file.seek(self._offsets.get(path, 0))
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._offsets[path] = self._offsets.get(path, 0) + len(whole)
            self.attempts += map(Attempt.of, whole.decode().splitlines())
        return self.attempts


@dataclass
class Promise:
    """What the service's answers promise about one run."""

    id: int | None = None
    is_started: bool = False
    is_monitored: bool = True
    stop: dict[str, Any] | None = None
    archived: int | None = None
    is_deleted: bool = False
    is_unfinished: bool = False
    start_tags: set[str] = field(default_factory=set)
    tags: set[str] = field(default_factory=set)

    @property
    def is_archivable(self) -> bool:
        """Return whether the job has stopped and must be archived."""
        return self.stop is not None and self.is_monitored


def promises(attempts: Iterable[Attempt]) -> dict[Key, Promise]:
    """Return the promise of each run."""
    result: dict[Key, Promise] = {}
    for attempt in attempts:
        promise = result.setdefault(attempt.key, Promise())
        if attempt.operation == "start":
            promise.is_monitored = attempt.event["monitoringStatus"] != 0
        if attempt.is_success or attempt.is_repeated:
            _add(promise, attempt)
        elif attempt.ends:
            promise.is_unfinished = True
    return result


def _add(promise: Promise, attempt: Attempt) -> None:
    if attempt.operation == "start":
        promise.is_started, promise.id = True, attempt.id or promise.id
        promise.tags |= {tag["name"] for tag in attempt.event["tags"]}
    elif attempt.operation == "stop":
        promise.stop = attempt.event
        promise.archived = attempt.archived or promise.archived
    elif attempt.operation == "tag":
        promise.tags |= {tag["name"] for tag in attempt.event["tags"]}
    elif attempt.operation == "delete":
        promise.is_deleted = True
