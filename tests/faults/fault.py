"""A row of the suite: an injection, its weight, and the failures that it may cause."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.audit import Tolerance
from tests.faults.series import Series, Setup

RECOVERY_SECONDS = 5


def _no_obstacle() -> str:
    return ""


@contextmanager
def _no_surroundings(directory: Path) -> Iterator[None]:
    del directory
    yield


@dataclass(frozen=True)
class Fault:
    """`inject` breaks and heals once; `obstacle` returns why this machine does not allow it.

    `weight` is the share of all injections. `surroundings` is a context for the directory of the
    series.
    """

    name: str
    weight: int
    inject: Callable[[Series], None]
    setup: Setup = field(default_factory=Setup)
    tolerance: Tolerance = field(default_factory=Tolerance)
    obstacle: Callable[[], str] = _no_obstacle
    surroundings: Callable[[Path], AbstractContextManager[None]] = _no_surroundings
    recovery_seconds: float = RECOVERY_SECONDS
