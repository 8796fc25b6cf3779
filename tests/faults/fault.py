"""A row of the suite: what is broken, how often, and what it may cause."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.audit import Tolerance
from tests.faults.bench import Bench, Setup

RECOVERY_SECONDS = 5


def _nothing() -> str:
    return ""


@contextmanager
def _as_it_is(directory: Path) -> Iterator[None]:
    del directory
    yield


@dataclass(frozen=True)
class Fault:
    """`inject` breaks and heals once; `obstacle` says why it cannot be done here, if so.

    `weight` is its share of all injections. `surroundings` are what the series' directory
    needs around it.
    """

    name: str
    weight: int
    inject: Callable[[Bench], None]
    setup: Setup = field(default_factory=Setup)
    tolerance: Tolerance = field(default_factory=Tolerance)
    obstacle: Callable[[], str] = _nothing
    surroundings: Callable[[Path], AbstractContextManager[None]] = _as_it_is
    recovery_seconds: float = RECOVERY_SECONDS
