"""Counters of what went wrong; they survive the sender."""

import contextlib
import json
from pathlib import Path

from ccapi_slurm.spool import replace

UNKNOWN_STATES = "unknown_states"
GUESSED_ENDS = "guessed_ends"
RESIZES = "resizes"
REDUCED_STARTS = "reduced_starts"
DEAD_LETTERS = "dead_letters"
MISSING_RECORDS = "missing_records"
UNCLEAR_RECORDS = "unclear_records"

MEANINGS = {
    UNKNOWN_STATES: "Ends with a state that the sender does not know.",
    GUESSED_ENDS: "Ends whose state was guessed from the exit code.",
    RESIZES: "Running jobs that got other nodes.",
    REDUCED_STARTS: "Starts that were too large and were sent with less.",
    DEAD_LETTERS: "Events that became dead letters.",
    MISSING_RECORDS: "Starts without a record of slurmctld.",
    UNCLEAR_RECORDS: "Starts whose record has no clear value of a field that every job has.",
}


class Counters:
    """Counters in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_saved = path.exists()
        self.values = dict.fromkeys(MEANINGS, 0)
        with contextlib.suppress(OSError, ValueError, AttributeError):
            saved = json.loads(path.read_text("ascii"))
            self.values.update({name: int(saved.get(name, 0)) for name in MEANINGS})

    def add(self, name: str) -> None:
        """Count one more."""
        self.values[name] += 1
        self._is_saved = False

    def save(self) -> None:
        """Replace the file if a counter has changed; raises OSError."""
        if not self._is_saved:
            replace(self._path, json.dumps(self.values))
            self._is_saved = True
