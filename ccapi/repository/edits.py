"""Change tags, metadata and ends of jobs: sql/queries/edits.sql.

The caller holds the job's lock, see jobs.lock.
"""

from collections.abc import Mapping, Sequence

from psycopg.rows import class_row

from ccapi.db import queries
from ccapi.db.pool import Connection
from ccapi.model.job import Correction, Tag
from ccapi.repository import codec

_SQL = queries.load("edits")


def begin_archive_edit(conn: Connection, id_: int) -> int | None:
    """Record that an edit of an archived job's file begins; None if the job is not archived."""
    row = conn.execute(_SQL["begin_archive_edit"], {"id": id_}).fetchone()
    return None if row is None else int(row[0])


def end_archive_edit(conn: Connection, record: int) -> None:
    """Record that the file agrees with the database."""
    conn.execute(_SQL["end_archive_edit"], {"id": record})


def list_archive_edits(conn: Connection) -> list[tuple[int, int]]:
    """List records of edits whose workers have died, and the ids of their jobs."""
    return [(record, id_) for record, id_ in conn.execute(_SQL["list_archive_edits"])]


def correct_end(
    conn: Connection, id_: int, job_state: str | None, stop_time: int | None, corrected_by: str
) -> None:
    """Give a stopped job another end; None keeps the present value."""
    params = {
        "id": id_,
        "job_state": job_state,
        "stop_time": stop_time,
        "corrected_by": corrected_by,
    }
    conn.execute(_SQL["correct_end"], params)


def list_corrections(conn: Connection, id_: int) -> list[Correction]:
    """Return a job's corrections in order of time."""
    with conn.cursor(row_factory=class_row(Correction)) as cursor:
        return cursor.execute(_SQL["list_corrections"], {"id": id_}).fetchall()


def replace_meta_data(conn: Connection, id_: int, meta_data: Mapping[str, str]) -> None:
    """Replace a job's metadata."""
    params = {"id": id_, "meta_data": codec.json_or_none(meta_data)}
    conn.execute(_SQL["replace_meta_data"], params)


def replace_statistics(conn: Connection, id_: int, statistics: Mapping[str, object]) -> None:
    """Replace a job's statistics."""
    params = {"id": id_, "statistics": codec.json_or_none(statistics)}
    conn.execute(_SQL["replace_statistics"], params)


def attach_tags(conn: Connection, id_: int, tags: Sequence[Tag]) -> None:
    """Add tags to a job and create those that are new; skip tags that it has already."""
    conn.execute(_SQL["attach_tags"], {"id": id_, "tags": codec.tags_json(tags)})


def count_tags(conn: Connection, id_: int) -> int:
    """Count a job's tags."""
    [number] = conn.execute(_SQL["count_tags"], {"id": id_}).fetchone() or [0]
    return int(number)


def detach_tags(conn: Connection, id_: int, tags: Sequence[Tag]) -> None:
    """Remove tags from a job; skip tags that it does not have."""
    conn.execute(_SQL["detach_tags"], {"id": id_, "tags": codec.tags_json(tags)})
