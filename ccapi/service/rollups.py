"""Sum up the jobs of past days, so that statistics of long ranges need not read them."""

import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from ccapi.db.pool import Database
from ccapi.errors import InvalidInput, Unfinished
from ccapi.model.job import Range
from ccapi.model.statistics import DAY_SECONDS, Days
from ccapi.repository import rollups

# In one transaction, which needs a gigabyte of temporary files at a site of 50 million jobs a year.
_MAX_DAYS = 8
_MAX_WAIT_SECONDS = 60
_PAUSE_SECONDS = 0.05


def require_short(time: Range, days: Days | None, max_days: int) -> None:
    """Raise InvalidInput if a query had to read the jobs of too many days beside roll-ups."""
    seconds = time.upper - time.lower - (days.seconds if days else 0)
    if seconds > max_days * DAY_SECONDS:
        expected = (
            f"must be at most {max_days} days long, besides days with roll-ups; if days in between "
            "have changed, `ccapi rollup` sums them up again"
        )
        raise InvalidInput.of("range", expected)


def rebuild(database: Database, now: int) -> Iterator[int]:
    """Sum up the days that have no sums, or outdated ones; yields the number of days done.

    A day's turn comes when its jobs of up to 25 hours must have ended. Raises Unfinished if
    another transaction does not end: it may have changed a job of a day that is new here.
    """
    with database.session() as conn:
        rollups.register_days(conn, (now - rollups.MAX_SECONDS) // DAY_SECONDS)
        transaction = rollups.next_transaction(conn)
        deadline = time.monotonic() + _MAX_WAIT_SECONDS
        while not rollups.have_ended(conn, transaction):
            if time.monotonic() > deadline:
                raise Unfinished(
                    f"a transaction has been writing to the database server for more than "
                    f"{_MAX_WAIT_SECONDS} seconds: end it, or try again later"
                )
            time.sleep(_PAUSE_SECONDS)
        days: Sequence[int] = rollups.changed_days(conn)
        while days:
            number = bisect_left(days, days[0] + _MAX_DAYS)
            with conn.transaction():
                rollups.sum_up(conn, days[:number])
            yield number
            days = days[number:]
