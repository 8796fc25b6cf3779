"""The place of a database among the sites of a hub: docs/scale.rst."""

from typing import NamedTuple

from psycopg.rows import class_row

from ccapi.db import queries
from ccapi.db.pool import Connection, Database
from ccapi.errors import StartupError

_SQL = queries.load("sites")
# The hub's number among its sites, which begin at 1.
HUB = 0
# A site sends something at least twice in PostgreSQL's wal_sender_timeout, a minute.
_MAX_SILENT_SECONDS = 90


class Subscription(NamedTuple):
    """What a hub receives from a site."""

    name: str
    is_enabled: bool
    is_connected: bool
    tables_left: int
    seconds_silent: float | None

    @property
    def problem(self) -> str:
        """Return why the site's jobs are not up to date; "" if they are."""
        if not self.is_enabled:
            return "is disabled"
        if not self.is_connected:
            return "is not connected; PostgreSQL's log has the reason"
        if self.tables_left:
            return f"copies {self.tables_left} tables"
        if (self.seconds_silent or 0) > _MAX_SILENT_SECONDS:
            return f"was last heard {self.seconds_silent:.0f} seconds ago"
        return ""


def prepare(conn: Connection, site: int | None, *, renumber: bool) -> None:
    """Make a migrated database a site or the hub, or complete it after a migration.

    Raises StartupError if it is another one already, or has jobs; with `renumber`, the jobs of a
    site get new ids.
    """
    actual = this_site(conn)
    if actual != site:
        _require_undecided(actual, site)
        if conn.execute(_SQL["has_ids"]).fetchone() == (True,):
            if site == HUB:
                raise StartupError("the database has jobs, and cannot become a hub: create another")
            if not renumber:
                raise StartupError(
                    "the database has jobs, whose ids other sites may have, too: stop the service, "
                    "and use `ccapi migrate --renumber`, which gives them new ids"
                )
    if site == HUB:
        conn.execute(_SQL["become_hub"])
    elif site is not None:
        conn.execute(_SQL["become_site"], {"site": site})


def require(conn: Connection, site: int | None) -> None:
    """Raise StartupError unless the database is what the settings say."""
    actual = this_site(conn)
    if actual != site:
        _require_undecided(actual, site)
        raise StartupError(f"the database is not {describe(site)} yet; run `ccapi migrate` first")


def this_site(conn: Connection) -> int | None:
    """Return the database's number, HUB, or None for a registry without a hub."""
    row = conn.execute(_SQL["this_site"]).fetchone()
    return None if row is None else int(row[0])


def describe(site: int | None) -> str:
    """Return what a database is in words."""
    if site is None:
        return "a registry without a hub"
    return "a hub" if site == HUB else f"site {site} of a hub"


def list_subscriptions(conn: Connection) -> list[Subscription]:
    """Return what a hub receives, in the order of names; nothing elsewhere."""
    with conn.cursor(row_factory=class_row(Subscription)) as cursor:
        return cursor.execute(_SQL["list_subscriptions"]).fetchall()


def problems(database: Database, site: int | None) -> list[str]:
    """Return what keeps jobs from reaching the hub, on a site or on the hub itself.

    Raises DatabaseUnavailable.
    """
    if site is None:
        return []
    with database.session() as conn:
        [level] = conn.execute(_SQL["wal_level"]).fetchone() or [""]
        subscriptions = list_subscriptions(conn)
        shared = conn.execute(_SQL["list_shared_clusters"]).fetchall() if site == HUB else ()
    if site != HUB:
        return [] if level == "logical" else [f"wal_level is {level}, and a site needs logical"]
    if not subscriptions:
        return ["the hub has no subscription"]
    return [f"subscription {one.name} {one.problem}" for one in subscriptions if one.problem] + [
        f"cluster {name} is at the sites {', '.join(map(str, numbers))}: rename it at all but one"
        for name, numbers in shared
    ]


def _require_undecided(actual: int | None, site: int | None) -> None:
    if actual is not None:
        raise StartupError(
            f"the database is {describe(actual)}, and the settings say {describe(site)}: that is "
            "decided once; correct [database] site or hub"
        )
