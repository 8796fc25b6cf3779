"""Tags in PostgreSQL: sql/queries/tags.sql."""

from collections.abc import Sequence

from ccapi.model.job import Tag
from ccapi.repository import queries
from ccapi.repository.database import Connection

_SQL = queries.load("tags")


def attach(conn: Connection, id_: int, tags: Sequence[Tag]) -> None:
    """Give the job with database id `id_` tags, creating those that are new."""
    conn.execute(_SQL["attach_tags"], _parameters(id_, tags))


def detach(conn: Connection, id_: int, tags: Sequence[Tag]) -> None:
    """Take tags from the job with database id `id_`; those that it has not are passed over."""
    conn.execute(_SQL["detach_tags"], _parameters(id_, tags))


def _parameters(id_: int, tags: Sequence[Tag]) -> dict[str, object]:
    return {
        "job_id": id_,
        "types": [tag.type for tag in tags],
        "names": [tag.name for tag in tags],
    }
