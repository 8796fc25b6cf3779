"""A streaming replica that answers readers, unless it lags or does not answer."""

import logging
import math
import time

from ccapi.db import migrations
from ccapi.db.pool import Database, replication_lag_seconds
from ccapi.db.probe import CachedProbe
from ccapi.errors import DatabaseUnavailable

_log = logging.getLogger(__name__)
_TIMEOUT_SECONDS = 2
_TTL_SECONDS = 1
_PAUSE_SECONDS = 5


class Replica:
    """A replica whose lag is checked once a second while readers come.

    After a failure, or a lag of more than `max_lag` seconds, it pauses for 5 seconds.
    """

    def __init__(self, database: Database, max_lag: float) -> None:
        self.database = database
        self._max_lag = max_lag
        self._probe = CachedProbe(self.problem, ttl_seconds=_TTL_SECONDS)
        self._up_to_date_at = -math.inf
        self._pause_ends = -math.inf
        self._is_paused = False

    def is_usable(self) -> bool:
        """Return whether the replica can answer readers; takes 2 seconds at most."""
        if time.monotonic() < self._pause_ends:
            return False
        try:
            problem = self._probe.result(_TIMEOUT_SECONDS)
        except TimeoutError:
            problem = f"it does not answer within {_TIMEOUT_SECONDS} seconds"
        if problem:
            self.pause(problem)
            return False
        if self._is_paused:
            _log.warning("the replica answers readers again")
            self._is_paused = False
        return True

    def pause(self, reason: str) -> None:
        """Stop using the replica for a while; logs the reason once."""
        self._pause_ends = time.monotonic() + _PAUSE_SECONDS
        if not self._is_paused:
            _log.warning("the primary answers readers, not the replica: %s", reason)
            self._is_paused = True

    def problem(self) -> str:
        """Return why the replica cannot answer readers now; "" when it can."""
        try:
            with self.database.connection() as conn:
                commit_age = replication_lag_seconds(conn)
                missing = migrations.missing(conn)
        except DatabaseUnavailable as error:
            return str(error)
        # After a quiet hour the last commit is old; under load some commit is always on its
        # way. A replica lags only when both hold.
        now = time.monotonic()
        if commit_age == 0:
            self._up_to_date_at = now
        if min(commit_age, now - self._up_to_date_at) > self._max_lag:
            return f"it lags by more than {self._max_lag:g} seconds"
        # After an upgrade the schema arrives with the same lag as everything else.
        return f"migrations are missing: {', '.join(missing)}" if missing else ""
