"""What the clients sent and were answered, one line per attempt, and what must be true then."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

Key = tuple[str, int, int]
NO_ANSWER = 0


class Attempt(NamedTuple):
    """One request: what, for which run, when (monotonic seconds), and the answer.

    `ends` tells that the client took the answer as final. `event` is what the request was to
    bring about; `archived` is the monitoringStatus that a stop's answer gave.
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
        """Tell whether the service did what was asked."""
        return self.status in (200, 201)

    @property
    def is_refusal(self) -> bool:
        """Tell whether it ended as "was done before"."""
        return self.ends and self.status == 422

    def line(self) -> str:
        """Write the attempt down."""
        return json.dumps(self) + "\n"

    @classmethod
    def of(cls, line: str) -> "Attempt":
        """Read an attempt."""
        operation, key, *rest = json.loads(line)
        return cls(operation, (key[0], key[1], key[2]), *rest)


class Ledger:
    """The files that the clients append to, read as they grow."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._offsets: dict[Path, int] = {}
        self.attempts: list[Attempt] = []

    def read(self) -> list[Attempt]:
        """Read what was added; return everything so far."""
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
    """What the service's answers promise of one run."""

    id: int | None = None
    is_started: bool = False
    is_wanted: bool = True
    stop: dict[str, Any] | None = None
    archived: int | None = None
    is_deleted: bool = False
    is_unfinished: bool = False
    start_tags: set[str] = field(default_factory=set)
    tags: set[str] = field(default_factory=set)

    @property
    def is_archivable(self) -> bool:
        """Tell whether the job has stopped and wants to be archived."""
        return self.stop is not None and self.is_wanted


def promises(attempts: Iterable[Attempt]) -> dict[Key, Promise]:
    """Sum up the attempts of each run."""
    found: dict[Key, Promise] = {}
    for attempt in attempts:
        promise = found.setdefault(attempt.key, Promise())
        if attempt.operation == "start":
            promise.is_wanted = attempt.event["monitoringStatus"] != 0
        if attempt.is_success or attempt.is_refusal:
            _keep(promise, attempt)
        elif attempt.ends:
            promise.is_unfinished = True
    return found


def _keep(promise: Promise, attempt: Attempt) -> None:
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
