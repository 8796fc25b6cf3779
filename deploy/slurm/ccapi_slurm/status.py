"""The state of the spool, as text and as metrics."""

import logging
import time
from pathlib import Path
from typing import Optional

from ccapi_slurm.spool import Spool

_log = logging.getLogger(__name__)

_METRICS = (
    ("ccapi_slurm_spool_events", "Events that wait to be sent."),
    ("ccapi_slurm_spool_oldest_seconds", "Age of the oldest waiting event."),
    ("ccapi_slurm_dead_letters", "Events that ccapi rejected."),
    ("ccapi_slurm_sender_timestamp_seconds", "Time when the sender wrote this file."),
)


def describe(spool: Spool) -> str:
    """Return the number of waiting events, and the dead letters with their reasons."""
    events, oldest_seconds, dead_letters = _measure(spool)
    age = f", the oldest for {oldest_seconds} s" if events else ""
    lines = [f"events waiting: {events}{age}", f"dead letters: {dead_letters}"]
    lines += [f"  {name}: {spool.reason(name).strip()}" for name in spool.dead_letters()]
    return "\n".join(lines)


def write_metrics(spool: Spool, path: Optional[Path]) -> None:
    """Replace the text file for Prometheus' node exporter, if one is configured."""
    if path is None:
        return
    values = (*_measure(spool), int(time.time()))
    lines = [
        f"# HELP {name} {meaning}\n# TYPE {name} gauge\n{name} {value}\n"
        for (name, meaning), value in zip(_METRICS, values)
    ]
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.write_text("".join(lines), "ascii")
        draft.chmod(0o644)
        draft.rename(path)
    except OSError as error:
        _log.warning("cannot write the metrics file: %s", error)


def _measure(spool: Spool) -> tuple[int, int, int]:
    """Return the number of events, the age of the oldest, and the number of dead letters."""
    oldest_seconds = max(0, int(spool.oldest_seconds()))
    return len(spool.events()), oldest_seconds, len(spool.dead_letters())
