"""The state of the sender, as text and as metrics."""

import contextlib
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Optional

from ccapi_slurm.client import UNAUTHORIZED_STATUSES
from ccapi_slurm.counters import MEANINGS, Counters
from ccapi_slurm.spool import Spool, replace

_log = logging.getLogger(__name__)

_GAUGES = (
    ("ccapi_slurm_spool_events", "Events that wait to be sent."),
    ("ccapi_slurm_spool_oldest_seconds", "Age of the oldest waiting event."),
    ("ccapi_slurm_dead_letters", "Events that ccapi refused for good, or that are broken."),
    ("ccapi_slurm_token_letters", "Events that wait for a valid token."),
    ("ccapi_slurm_ccapi_up", "1: the last request reached ccapi, and it accepted the token."),
    ("ccapi_slurm_sender_timestamp_seconds", "Time when the sender wrote this file."),
)
_LOST = "ccapi_slurm_lost_events_total", "Events that a hook could not write, by cause."


class Outage(NamedTuple):
    """Why events wait; times are epoch seconds."""

    error: str
    since: float
    next_try: float


class Status(NamedTuple):
    """The state of the spool and of the sender; `outage` is None while ccapi is available."""

    events: int
    oldest_seconds: int
    dead_letters: list[str]
    token_letters: list[str]
    lost: dict[str, int]
    is_running: bool
    outage: Optional[Outage]

    @property
    def is_good(self) -> bool:
        """Return whether nobody needs to do anything."""
        has_losses = any(self.lost.values())
        has_letters = bool(self.dead_letters or self.token_letters)
        return self.is_running and self.outage is None and not has_letters and not has_losses


def measure(spool: Spool) -> Status:
    """Return the present status; raises OSError."""
    dead: list[str] = []
    token: list[str] = []
    for name in spool.dead_letters():
        (token if spool.reason(name).startswith(UNAUTHORIZED_STATUSES) else dead).append(name)
    outage = None
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
        outage = Outage(*json.loads(spool.outage.read_text("utf-8")))
    return Status(
        events=len(spool.events()),
        oldest_seconds=max(0, int(spool.oldest_seconds())),
        dead_letters=dead,
        token_letters=token,
        lost=spool.lost_events(),
        is_running=spool.is_locked(),
        outage=outage,
    )


def describe(spool: Spool, status: Status) -> str:
    """Return a status as lines of text, with the reasons of the dead letters."""
    age = f", the oldest for {status.oldest_seconds} s" if status.events else ""
    causes = ", ".join(f"{cause}: {count}" for cause, count in status.lost.items() if count)
    lines = [
        f"events waiting: {status.events}{age}",
        f"dead letters: {len(status.dead_letters)}",
        f"waiting for a valid token: {len(status.token_letters)}",
        f"events lost: {sum(status.lost.values())}" + (f" ({causes})" if causes else ""),
        f"sender: {'running' if status.is_running else 'not running'}",
    ]
    if status.outage:
        error, since, next_try = status.outage
        seconds = int(max(0, time.time() - since))
        text = f"ccapi: unavailable for {seconds} s: {error:.500}"
        wait = int(max(0, next_try - time.time()))
        lines.append(text + (f"; next try in {wait} s" if status.is_running else ""))
    else:
        lines.append("ccapi: available")
    lines += [f"  {name}: {spool.reason(name).strip():.1000}" for name in status.dead_letters]
    return "\n".join(lines)


def save_outage(spool: Spool, outage: Optional[Outage]) -> None:
    """Save for `--status` why events wait; raises OSError."""
    replace(spool.outage, json.dumps(outage))


def write_metrics(spool: Spool, counters: Counters, path: Optional[Path]) -> None:
    """Replace the text file for Prometheus' node exporter, if one is configured."""
    if path is None:
        return
    try:
        replace(path, "".join(_lines(measure(spool), counters)), mode=0o644)
    except OSError as error:
        _log.warning("cannot write the metrics file: %s", error)


def _lines(status: Status, counters: Counters) -> Iterator[str]:
    values = (
        status.events,
        status.oldest_seconds,
        len(status.dead_letters),
        len(status.token_letters),
        int(status.outage is None),
        int(time.time()),
    )
    for (name, meaning), value in zip(_GAUGES, values):
        yield f"# HELP {name} {meaning}\n# TYPE {name} gauge\n{name} {value}\n"
    for counter, meaning in MEANINGS.items():
        name = f"ccapi_slurm_{counter}_total"
        yield f"# HELP {name} {meaning}\n# TYPE {name} counter\n"
        yield f"{name} {counters.values[counter]}\n"
    name, meaning = _LOST
    yield f"# HELP {name} {meaning}\n# TYPE {name} counter\n"
    for cause, count in status.lost.items():
        yield f'{name}{{cause="{cause}"}} {count}\n'
