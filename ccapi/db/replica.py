"""A streaming replica that answers readers, unless it is late or does not answer."""

import logging
import math
import time

from ccapi.errors import DatabaseUnavailable
from ccapi.db import migrations
from ccapi.db.pool import Database, replication_lag_seconds
from ccapi.db.probe import CachedProbe

_log = logging.getLogger(__name__)
_TIMEOUT_SECONDS = 2
_TTL_SECONDS = 1
_PAUSE_SECONDS = 5


class Replica:
    """The replica, asked once a second how late it is while readers come.

    One that failed, or is later than `max_lag` seconds, is left alone for 5 seconds.
    """

    def __init__(self, database: Database, max_lag: float) -> None:
        self.database = database
        self._max_lag = max_lag
        self._watch = CachedProbe(self.problem, ttl_seconds=_TTL_SECONDS)
        self._whole_at = -math.inf
        self._pause_ends = -math.inf
        self._is_told = False

    def is_usable(self) -> bool:
        """Tell whether readers can be answered from the replica; takes 2 seconds at most."""
        if time.monotonic() < self._pause_ends:
            return False
        try:
            problem = self._watch.answer(_TIMEOUT_SECONDS)
        except TimeoutError:
            problem = f"it does not answer within {_TIMEOUT_SECONDS} seconds"
        if problem:
            self.give_up(problem)
            return False
        if self._is_told:
            _log.warning("readers are answered from the replica again")
            self._is_told = False
        return True

    def give_up(self, reason: str) -> None:
        """Leave the replica alone for a while; the log tells why, once."""
        self._pause_ends = time.monotonic() + _PAUSE_SECONDS
        if not self._is_told:
            _log.warning("readers are answered from the primary: the replica: %s", reason)
            self._is_told = True

    def problem(self) -> str:
        """Say why readers cannot be answered from the replica now; nothing when they can."""
        try:
            with self.database.statement() as conn:
                late, lacking = replication_lag_seconds(conn), migrations.missing(conn)
        except DatabaseUnavailable as error:
            return str(error)
        if self._late(late) > self._max_lag:
            return f"it is more than {self._max_lag:g} seconds late"
        # After an upgrade the schema arrives as late as everything else.
        return f"it lacks {', '.join(lacking)}" if lacking else ""

    def _late(self, late: float) -> float:
        """Return how late it is (seconds), by how old its last commit is.

        After a quiet hour the last commit is old, and under load there is always something on
        its way: late is what is both.
        """
        now = time.monotonic()
        if late == 0:
            self._whole_at = now
        return min(late, now - self._whole_at)
