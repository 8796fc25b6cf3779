"""How long the tests of properties may run: short in the suite, as told by `make` otherwise."""

import os
import time
from collections.abc import Iterator

_VARIABLE = "PROPERTIES_MINUTES"
_PARTS = 4  # model, concurrency, hostile input, contract


def long_form() -> bool:
    """Tell whether a duration was asked for."""
    return _VARIABLE in os.environ


def part_seconds() -> float:
    """Return what was asked for, divided by the parts."""
    return 60 * float(os.environ[_VARIABLE]) / _PARTS


def rounds(seconds: float, share: float = 1) -> Iterator[int]:
    """Count rounds for `seconds`, or for a share of a part's time; there is at least one."""
    end = time.monotonic() + (part_seconds() * share if long_form() else seconds)
    number = 0
    while number == 0 or time.monotonic() < end:
        yield number
        number += 1
