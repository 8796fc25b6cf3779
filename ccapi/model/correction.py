"""What became of the end of a job."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(slots=True, kw_only=True)
class Correction:
    """Another end for a job than it had, by a token or a command of this name.

    Stop times are epoch seconds; the old one is None when the job ran until then.
    """

    corrected_time: datetime
    corrected_by: str
    old_state: str
    new_state: str
    old_stop_time: int | None
    new_stop_time: int
