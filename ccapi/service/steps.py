"""What a repair reports, one by one."""

from pathlib import Path
from typing import NamedTuple

DONE = ("archived", "replaced", "removed", "imported", "already there")
LEFT = ("failed", "bad", "orphaned", "undecided")


class Step(NamedTuple):
    """One thing that was done, or was left as it is; `kind` is of DONE or of LEFT.

    `path` and `reason` say more where one is to look at it.
    """

    kind: str
    path: Path | None = None
    reason: str = ""
