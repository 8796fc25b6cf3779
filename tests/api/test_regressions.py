"""Bugs that were found by random and hostile requests, each with its test."""

import io
from collections.abc import Iterator

import pytest
from gunicorn.http.errors import InvalidChunkSize

from ccapi.context import Context
from ccapi.db.pool import Database
from tests.client import Client, assert_error


@pytest.fixture
def deletion_of_stopped_jobs(database: Database) -> Iterator[None]:
    """Delete every job as soon as its stop is committed, before it can be archived."""
    with database.session() as conn:
        conn.execute("""
            CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql
            AS $$ BEGIN DELETE FROM jobs WHERE id = NEW.id; RETURN NULL; END $$;
            CREATE CONSTRAINT TRIGGER forget AFTER UPDATE ON jobs
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION forget();
        """)
    yield
    with database.session() as conn:
        conn.execute("DROP FUNCTION forget CASCADE")


@pytest.mark.usefixtures("deletion_of_stopped_jobs")
@pytest.mark.parametrize(("requested", "status", "files"), [(1, 3, 1), (0, 0, 0)])
def test_job_deleted_before_its_archiving_is_archived(
    writer: Client, context: Context, requested: int, status: int, files: int
) -> None:
    id_ = writer.start(monitoringStatus=requested, tags=[{"type": "Debug", "name": "Testjob"}])
    stopped = writer.stop()
    assert (stopped["id"], stopped["monitoringStatus"]) == (id_, status)
    assert writer.list() == []
    assert len(list(context.archive_root.rglob("meta.json"))) == files


class Broken(io.RawIOBase):
    """A body as a WSGI server hands it over when the client cuts it off or its chunks are wrong."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def readinto(self, _: object) -> int:
        raise self._error


@pytest.mark.parametrize("error", [OSError("no more data"), InvalidChunkSize(b"zz")], ids=repr)
def test_truncated_or_badly_chunked_body_is_400(writer: Client, error: Exception) -> None:
    chunked = {"wsgi.input": Broken(error), "wsgi.input_terminated": True}
    response = writer.send("POST", "/start_job/", environ_overrides=chunked)
    assert_error(response, 400, "the body")
