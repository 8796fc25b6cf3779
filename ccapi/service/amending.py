"""Jobs are changed in the database and in the archive: in both, or in neither."""

import logging
from collections.abc import Callable

from ccapi.archive import reader, writer
from ccapi.errors import ArchiveError, UnknownJob
from ccapi.model.job import Job, JobKey
from ccapi.repository import jobs
from ccapi.repository.database import Connection
from ccapi.service.registry import Registry

_log = logging.getLogger(__name__)


def amend(registry: Registry, id_: int, change: Callable[[Connection], object]) -> Job:
    """Change a job within the transaction that holds it, and return it as it is then.

    An archived job's meta.json is rewritten before this returns. Raises UnknownJob, what
    `change` raises, and ArchiveError when the file cannot be written: nothing is changed then.
    """
    rewritten: _Rewritten | None = None
    try:
        with registry.database.transaction() as conn:
            if not jobs.lock(conn, id_):
                raise UnknownJob(f"no job has the database id {id_}")
            change(conn)
            job = jobs.get(conn, id_)
            assert job is not None
            if job.is_archived:
                rewritten = _Rewritten(registry, job)
                rewritten.write()
    except BaseException:
        if rewritten is not None:
            rewritten.undo()
        raise
    return job


class _Rewritten:
    """An archived job's file, and how to get its former content back."""

    def __init__(self, registry: Registry, job: Job) -> None:
        self._root = registry.archive_root
        self._job = job
        self._key = JobKey(job.cluster, job.job_id, job.start_time)
        self._former = reader.read_bytes(self._root, self._key)

    def write(self) -> None:
        writer.write(self._root, self._job)

    def undo(self) -> None:
        """Restore the file after a rename or a commit whose outcome is a failure."""
        try:
            if reader.read_bytes(self._root, self._key) != self._former:
                writer.put(self._root, self._key, self._former)
        except ArchiveError:
            _log.exception("meta.json of job id %s may show a refused change", self._job.id)
