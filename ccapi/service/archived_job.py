"""Read the meta.json of one job, for requests."""

from ccapi.archive import meta_json, reader
from ccapi.context import Context
from ccapi.errors import ArchiveError, NotArchived, UnknownJob
from ccapi.model.job import JobKey
from ccapi.repository import jobs


def read_by_id(context: Context, id_: int) -> bytes:
    """Return the meta.json of the job with a database id.

    Raises UnknownJob, NotArchived, and ArchiveError.
    """
    with context.database.connection() as conn:
        run = jobs.get_run(conn, id_, context.scope)
    if run is None:
        raise UnknownJob.with_id(id_)
    return read(context, JobKey(run.cluster, run.job_id, run.start_time))


def read(context: Context, key: JobKey) -> bytes:
    """Return the meta.json of a run, whether or not the database knows it.

    A job out of the token's scope does not exist. Raises NotArchived, and ArchiveError.
    """
    scope = context.scope
    if context.is_hub:
        raise NotArchived("a hub has no archive: send this to the job's site")
    try:
        data = context.archive_io.run(reader.read_bytes, context.archive_root, key)
        job = meta_json.decode(data)
    except reader.MissingMetaJson:
        raise NotArchived.with_key(*key) from None
    except ArchiveError as error:
        raise ArchiveError(f"meta.json of {key}: {error}") from error
    if job.key != key or not scope.includes(job.user_name, job.project, job.cluster):
        raise NotArchived.with_key(*key)
    return data if scope.sees_metadata else meta_json.without_meta_data(data)
