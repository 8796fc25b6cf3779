"""How full the spool is, for people and for Prometheus."""

import logging
import time
from pathlib import Path
from typing import Optional

from ccapi_slurm.spool import Spool

_log = logging.getLogger(__name__)

_METRICS = (
    ("ccapi_slurm_spool_events", "Events that wait to be sent."),
    ("ccapi_slurm_spool_oldest_seconds", "Age of the oldest event that waits."),
    ("ccapi_slurm_dead_letters", "Events that the registry refused."),
    ("ccapi_slurm_sender_timestamp_seconds", "When the sender wrote this."),
)


def describe(spool: Spool) -> str:
    """Say what waits and what was refused, with the registry's answers."""
    waiting, oldest, dead = _figures(spool)
    lines = [f"events waiting: {waiting}" + (f", the oldest for {oldest} s" if waiting else "")]
    lines.append(f"dead letters: {dead}")
    lines += [f"  {name}: {spool.answer(name).strip()}" for name in spool.dead_letters()]
    return "\n".join(lines)


def write_metrics(spool: Spool, path: Optional[Path]) -> None:
    """Replace the text file that Prometheus' node exporter reads, if one is wanted."""
    if path is None:
        return
    values = (*_figures(spool), int(time.time()))
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
        _log.warning("cannot write the metrics: %s", error)


def _figures(spool: Spool) -> tuple[int, int, int]:
    """Count events, the seconds that the oldest has waited, and dead letters."""
    waiting, oldest = len(spool.events()), max(0, int(spool.oldest_seconds()))
    return waiting, oldest, len(spool.dead_letters())
