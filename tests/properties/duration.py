"""How long the tests of properties may run: short in the suite, as told by `make`."""

import os
import time
from collections.abc import Iterator

_VARIABLE = "PROPERTIES_MINUTES"


def long_form() -> bool:
    """Tell whether a duration was asked for."""
    return _VARIABLE in os.environ


def rounds(seconds: float) -> Iterator[int]:
    """Count rounds for `seconds`, or for as long as asked for; there is at least one."""
    if long_form():
        seconds = 60 * float(os.environ[_VARIABLE])
    end = time.monotonic() + seconds
    number = 0
    while number == 0 or time.monotonic() < end:
        yield number
        number += 1
