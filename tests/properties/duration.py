"""How long the tests of properties run: seconds in the suite, PROPERTIES_MINUTES with `make`."""

import os
import time
from collections.abc import Iterator

_VARIABLE = "PROPERTIES_MINUTES"
_PARTS = 4  # model, concurrency, hostile input, contract


def long_form() -> bool:
    """Return whether the environment sets a duration."""
    return _VARIABLE in os.environ


def part_seconds() -> float:
    """Return the duration of each part."""
    return 60 * float(os.environ[_VARIABLE]) / _PARTS


def rounds(seconds: float, share: float = 1) -> Iterator[int]:
    """Count rounds for `seconds`, or for a share of a part's duration; there is at least one."""
    end = time.monotonic() + (part_seconds() * share if long_form() else seconds)
    number = 0
    while number == 0 or time.monotonic() < end:
        yield number
        number += 1
