"""Check whether the service can do its work now."""

import logging
from typing import NamedTuple

from ccapi.archive import writer
from ccapi.archive.breaker import ArchiveTimeout
from ccapi.context import Context
from ccapi.db import migrations, pool
from ccapi.db.probe import CachedProbe
from ccapi.errors import ArchiveError, DatabaseUnavailable
from ccapi.repository import health

_log = logging.getLogger(__name__)
_TIMEOUT_SECONDS = 2
_TTL_SECONDS = 1


class _Problem(NamedTuple):
    """A reason for the caller, and its details for the log."""

    reason: str
    detail: str


class HealthCheck:
    """Checks database and archive; logs a problem once.

    A database with more migrations than ours is fine: it is so between `ccapi migrate` and
    the reload at the end of an upgrade.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._probes: dict[str, CachedProbe[_Problem | None]] = {
            "the database": CachedProbe(self._check_database, ttl_seconds=_TTL_SECONDS),
        }
        if not context.is_hub:
            self._probes["the archive"] = CachedProbe(self._check_archive, ttl_seconds=_TTL_SECONDS)
        self._logged: list[_Problem] = []

    def reasons(self) -> list[str]:
        """Return what is not ready; takes 4 seconds at most."""
        problems: list[_Problem] = []
        for name, probe in self._probes.items():
            try:
                problem = probe.result(_TIMEOUT_SECONDS)
            except TimeoutError:
                reason = f"{name} does not answer"
                problem = _Problem(reason, f"{reason} within {_TIMEOUT_SECONDS} seconds")
            if problem is not None:
                problems.append(problem)
        if problems != self._logged:
            self._logged = problems
            if problems:
                _log.warning("not ready: %s", "; ".join(problem.detail for problem in problems))
            else:
                _log.warning("ready again")
        return [problem.reason for problem in problems]

    def replica(self) -> str | None:
        """Return "OK" or "not used"; None without a replica. Takes 2 seconds at most.

        The service is ready without its replica.
        """
        replica = self._context.replica
        if replica is None:
            return None
        return "OK" if replica.is_usable() else "not used"

    def _check_database(self) -> _Problem | None:
        try:
            with self._context.database.connection() as conn:
                missing = migrations.missing(conn)
                is_read_only = pool.is_read_only(conn)
        except DatabaseUnavailable as error:
            return _Problem("the database does not answer", str(error))
        if missing:
            reason = "migrations are missing: run `ccapi migrate`"
            return _Problem(reason, f"migrations are missing: {', '.join(missing)}")
        if is_read_only:
            reason = "the database is read-only"
            return _Problem(reason, reason)
        try:
            with self._context.database.transaction() as conn:
                health.write_as_a_start(conn)
        except DatabaseUnavailable as error:
            return _Problem("the database does not accept jobs", str(error))
        return None

    def _check_archive(self) -> _Problem | None:
        try:
            self._context.archive_io.run(writer.require_writable, self._context.archive_root)
        except ArchiveTimeout as error:
            return _Problem("the archive does not answer", str(error))
        except ArchiveError as error:
            return _Problem("the archive cannot be written", str(error))
        return None
