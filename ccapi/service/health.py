"""Whether the service can do its work now."""

import logging
from collections.abc import Callable

from ccapi.archive import writer
from ccapi.errors import ArchiveError, DatabaseUnavailable
from ccapi.db import pool, migrations
from ccapi.context import Context
from ccapi.db.probe import CachedProbe

_log = logging.getLogger(__name__)
_TIMEOUT_SECONDS = 2
_TTL_SECONDS = 1


class HealthCheck:
    """Asks database and archive; the log tells why they are not ready, once.

    A database with more migrations than ours is ready: so it is between `ccapi migrate` and
    the reload that an upgrade ends with.
    """

    def __init__(self, context: Callable[[], Context]) -> None:
        self._registry = context
        self._database = CachedProbe(self._ask_database, ttl_seconds=_TTL_SECONDS)
        self._archive = CachedProbe(self._ask_archive, ttl_seconds=_TTL_SECONDS)
        self._told: list[str] = []

    def reasons(self) -> list[str]:
        """Say what is not ready, for whoever asks; takes 4 seconds at most."""
        found = [_answer("the database", self._database), _answer("the archive", self._archive)]
        reasons, details = zip(*found, strict=True)
        self._tell([detail for detail in details if detail])
        return [reason for reason in reasons if reason]

    def replica(self) -> str | None:
        """Say whether readers are answered from the replica; None where there is none.

        Readiness does not depend on it. Takes 2 seconds at most.
        """
        replica = self._registry().replica
        if replica is None:
            return None
        return "OK" if replica.is_usable() else "not used"

    def _tell(self, details: list[str]) -> None:
        if details != self._told:
            if details:
                _log.warning("not ready: %s", "; ".join(details))
            else:
                _log.warning("ready again")
            self._told = details

    def _ask_database(self) -> tuple[str, str]:
        try:
            with self._registry().database.statement() as conn:
                missing = migrations.missing(conn)
                read_only = pool.is_read_only(conn)
        except DatabaseUnavailable as error:
            return "the database does not answer", str(error)
        if missing:
            reason = "the database lacks migrations: run `ccapi migrate`"
            return reason, f"the database lacks {', '.join(missing)}"
        reason = "the database takes no writes" if read_only else ""
        return reason, reason

    def _ask_archive(self) -> tuple[str, str]:
        try:
            writer.require_writable(self._registry().archive_root)
        except ArchiveError as error:
            return "the archive cannot be written", str(error)
        return "", ""


def _answer(name: str, watch: CachedProbe[tuple[str, str]]) -> tuple[str, str]:
    try:
        return watch.answer(_TIMEOUT_SECONDS)
    except TimeoutError:
        reason = f"{name} does not answer"
        return reason, f"{reason} within {_TIMEOUT_SECONDS} seconds"
