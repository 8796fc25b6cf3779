"""What a batch system says of its jobs, beside the registry; times are epoch seconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ccapi.model.job import JobState


class Run(NamedTuple):
    """A job that runs there."""

    job_id: int
    start_time: int


class EndedRun(NamedTuple):
    """A job of which it is known how and when it ended."""

    job_id: int
    start_time: int
    stop_time: int
    job_state: str


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """All jobs that ran on a cluster at one moment.

    `ended` is what is known of others; a job that runs no more and is not in it ended
    by `as_of`, with `job_state`.
    """

    cluster: str
    as_of: int
    running: Sequence[Run]
    ended: Sequence[EndedRun] = ()
    job_state: str = JobState.STOPPED


class StaleRun(NamedTuple):
    """A job that runs here and no more there: its database id, and the stop it is given."""

    id: int
    job_id: int
    start_time: int
    stop_time: int
    job_state: str


class Differences(NamedTuple):
    """Where registry and batch system do not agree, in the order of start times."""

    missing: list[Run]
    stale: list[StaleRun]
