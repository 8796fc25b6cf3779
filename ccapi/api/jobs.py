"""The contract's operations on jobs."""

from typing import Any

from flask import Response

from ccapi.api import job_list, schemas
from ccapi.api.serializers import answer, job_meta, job_with_timestamp, now
from ccapi.errors import InvalidInput, UnknownJob
from ccapi.http import request_log as accounting
from ccapi.http.blueprint import Blueprint, Documented
from ccapi.http.cache import CachedResponse
from ccapi.http.current import context
from ccapi.model.job import JobSelection, NewJob, Tag
from ccapi.model.token import Role
from ccapi.repository import jobs
from ccapi.service import deletion, edits, lifecycle

blueprint = Blueprint("jobs", __name__, url_prefix="/api/jobs")

_QUERY = "query"
_CHANGE = "add and modify"
_REMOVE = "remove"


@blueprint.operation(
    "/",
    "GET",
    Role.READER,
    Documented(
        group=_QUERY,
        answer=(200, schemas.GetJobsApiResponse(), "The jobs of the page"),
        errors=(400, 401, 403, 500),
        also_produces=("text/csv",),
    ),
    query=schemas.ListQuery(),
    is_shared=True,
)
def list_jobs(query: dict[str, Any]) -> CachedResponse | Response:
    """List jobs, the latest first.

    Filters, page and page size are query parameters. A page past the end is empty; a page
    may be as large as the list.
    """
    return job_list.page(context(), query)


@blueprint.operation(
    "/<int:id>",
    "GET",
    Role.READER,
    Documented(
        group=_QUERY,
        answer=(200, schemas.JobMeta(), "The job"),
        errors=(400, 401, 403, 404, 500),
    ),
    is_shared=True,
)
def get_job(*, id: int) -> CachedResponse:  # noqa: A002 - as in the contract
    """Show the job with a database id.

    With all that the registry knows of it, metaData included.
    """
    with context().database.connection() as conn:
        job = jobs.get(conn, id)
    if job is None:
        raise UnknownJob(f"no job has the database id {id}")
    return CachedResponse.of(job_meta(job, now()))


@blueprint.operation(
    "/start_job/",
    "POST",
    Role.WRITER,
    Documented(
        group=_CHANGE,
        answer=(201, schemas.StartJobApiResponse(), "The job is registered"),
        errors=(400, 401, 403, 422, 500),
        body="The job that starts",
        consumes=True,
    ),
    body=schemas.JobMeta(),
    also="PUT",
)
def start_job(job: NewJob) -> Response:
    """Register a job as running.

    Answered once the job is committed. A start that was reported before is refused with 422,
    whose message holds the database id. PUT does the same.
    """
    id_ = lifecycle.start(context(), job)
    accounting.current().job = id_
    return answer({"id": id_}, 201)


@blueprint.operation(
    "/stop_job/",
    "POST",
    Role.WRITER,
    Documented(
        group=_CHANGE,
        answer=(200, schemas.JobMeta(), "The stopped job"),
        errors=(400, 401, 403, 404, 422, 500),
        body="Which job ended, when and how; jobId is needed here",
    ),
    body=schemas.StopJobApiRequest(),
    also="PUT",
)
def stop_job(stop: dict[str, Any]) -> Response:
    """Stop the job that the body describes, and archive it.

    A running match is preferred to finished ones. monitoringStatus of the answer tells how
    archiving ended: 3 archived, 2 failed, 0 not wanted. PUT does the same.
    """
    job_id = stop.get("job_id")
    if job_id is None:
        raise InvalidInput.of("jobId", "is required, unless the database id is in the path")
    wanted = JobSelection(job_id, stop.get("cluster"), stop.get("start_time"))
    job = lifecycle.stop(context(), wanted, stop["job_state"], stop["stop_time"])
    accounting.current().job = job.id
    return answer(job_meta(job, now()))


@blueprint.operation(
    "/stop_job/<id>",
    "POST",
    Role.WRITER,
    Documented(
        group=_CHANGE,
        answer=(200, schemas.JobMeta(), "The stopped job"),
        errors=(400, 401, 403, 404, 422, 500),
        body="When the job ended and how",
        consumes=True,
    ),
    body=schemas.StopJobApiRequest(),
    also="PUT",
)
def stop_job_by_id(stop: dict[str, Any], *, id: int) -> Response:  # noqa: A002 - the contract's name
    """Stop the job with a database id, and archive it.

    Only stopTime and jobState of the body count. PUT does the same.
    """
    job = lifecycle.stop_by_id(context(), id, stop["job_state"], stop["stop_time"])
    return answer(job_meta(job, now()))


@blueprint.operation(
    "/tag_job/<id>",
    "POST",
    Role.WRITER,
    Documented(
        group=_CHANGE,
        answer=(200, schemas.Job(), "The tagged job"),
        errors=(400, 401, 404, 500),
        body="The tags to add",
        consumes=True,
    ),
    body=schemas.ApiTag(many=True),
    also="PATCH",
)
def tag_job(tags: list[Tag], *, id: int) -> Response:  # noqa: A002 - the contract's name
    """Add tags to the job with a database id.

    All or none is added; a tag that the job has already is not added twice. An archived job's
    files have the tags before the answer. PATCH does the same.
    """
    return answer(job_with_timestamp(edits.tag(context(), id, tags), now()))


@blueprint.operation(
    "/delete_job/",
    "DELETE",
    Role.ADMIN,
    Documented(
        group=_REMOVE,
        answer=(200, schemas.DeleteJobApiResponse(), "The job is deleted"),
        errors=(400, 401, 403, 404, 422, 500),
        body="Which job to delete",
        consumes=True,
    ),
    body=schemas.DeleteJobApiRequest(),
)
def delete_job(body: dict[str, Any]) -> Response:
    """Delete the job that the body describes from the database.

    Nothing is deleted when more than one job matches. The archive is not touched.
    """
    wanted = JobSelection(body["job_id"], body.get("cluster"), body.get("start_time"))
    return _deleted_one(deletion.delete(context(), wanted))


@blueprint.operation(
    "/delete_job/<id>",
    "DELETE",
    Role.ADMIN,
    Documented(
        group=_REMOVE,
        answer=(200, schemas.DeleteJobApiResponse(), "The job is deleted"),
        errors=(400, 401, 403, 404, 422, 500),
    ),
)
def delete_job_by_id(*, id: int) -> Response:  # noqa: A002 - the contract's name
    """Delete the job with a database id from the database.

    The archive is not touched.
    """
    deletion.delete_by_id(context(), id)
    return _deleted_one(id)


@blueprint.operation(
    "/delete_job_before/<ts>",
    "DELETE",
    Role.ADMIN,
    Documented(
        group=_REMOVE,
        answer=(200, schemas.DeleteJobApiResponse(), "The jobs are deleted"),
        errors=(400, 401, 403, 404, 422, 500),
    ),
)
def delete_job_before(*, ts: int) -> Response:
    """Delete every job that started before a time from the database.

    Whatever the jobs' states; zero is no error. The archive is not touched.
    """
    deleted = deletion.delete_before(context(), ts)
    jobs = "job that" if deleted == 1 else "jobs that"
    return answer({"msg": f"deleted {deleted} {jobs} started before {ts}"})


def _deleted_one(id_: int) -> Response:
    accounting.current().job = id_
    return answer({"msg": f"deleted the job with database id {id_}"})
