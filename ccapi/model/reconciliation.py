"""The jobs of a batch system, compared with the database; times are epoch seconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ccapi.model.job import JobState


class Run(NamedTuple):
    """A job that is running in the batch system."""

    job_id: int
    start_time: int


class EndedRun(NamedTuple):
    """A job whose end the batch system still knows."""

    job_id: int
    start_time: int
    stop_time: int
    job_state: str


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """All jobs that were running on a cluster at one moment.

    `active` are those of them that have certainly not ended, unlike those whose nodes are being
    released.
    `ended` has the ends of others, as far as the batch system knows them. Other jobs that are
    not running have ended by `as_of`, with `job_state`.
    """

    cluster: str
    as_of: int
    running: Sequence[Run]
    active: Sequence[Run] = ()
    ended: Sequence[EndedRun] = ()
    job_state: str = JobState.STOPPED


class StaleRun(NamedTuple):
    """A job that runs only in the database, with the stop to give it."""

    id: int
    job_id: int
    start_time: int
    stop_time: int
    job_state: str


class EarlyEnd(NamedTuple):
    """A job that has ended in the database, but runs in the batch system."""

    id: int
    job_id: int
    start_time: int
    stop_time: int
    job_state: str


class Differences(NamedTuple):
    """Jobs that run only in the batch system, or only in the database, by start time."""

    missing: list[Run]
    stale: list[StaleRun]
    ended_early: list[EarlyEnd]
