"""Tags, metadata and corrected ends of jobs: sql/queries/edits.sql."""

from collections.abc import Mapping
from psycopg.rows import class_row
from ccapi.model.correction import Correction
from ccapi.repository import codec as packing
from ccapi.db import queries
from ccapi.db.pool import Connection
from collections.abc import Sequence
from ccapi.model.job import Tag


_SQL = queries.load("corrections")


def correct(
    conn: Connection, id_: int, job_state: str | None, stop_time: int | None, corrected_by: str
) -> None:
    """Give a stopped job, held by the caller, another end; None keeps what it is."""
    parameters = {
        "id": id_,
        "job_state": job_state,
        "stop_time": stop_time,
        "corrected_by": corrected_by,
    }
    conn.execute(_SQL["correct_job"], parameters)


def of_job(conn: Connection, id_: int) -> list[Correction]:
    """Return a job's corrections, the first one first."""
    with conn.cursor(row_factory=class_row(Correction)) as cursor:
        return cursor.execute(_SQL["list_corrections"], {"id": id_}).fetchall()


def replace_meta_data(conn: Connection, id_: int, meta_data: Mapping[str, str]) -> None:
    """Give a job, held by the caller, other metadata."""
    parameters = {"id": id_, "meta_data": packing.meta_data(meta_data)}
    conn.execute(_SQL["replace_meta_data"], parameters)


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
