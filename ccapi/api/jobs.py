"""The contract's operations on jobs."""

from collections.abc import Mapping
from typing import Any

from flask import Response

from ccapi.api import job_list, queries, schemas
from ccapi.api.job_list import ListRequest
from ccapi.api.serializers import job_meta, job_with_timestamp, now
from ccapi.context import Context
from ccapi.errors import InvalidInput, UnknownJob
from ccapi.http import request_log
from ccapi.http.blueprint import Blueprint
from ccapi.model.job import JobSelection, NewJob, Tag
from ccapi.model.token import Role
from ccapi.repository import jobs
from ccapi.service import deletion, edits, lifecycle
from ccapi.service.lifecycle import End

blueprint = Blueprint("jobs", __name__, url_prefix="/api/jobs")


@blueprint.route("/", Role.READER, methods=["GET"], tags=schemas.QUERY, cached=True)
@blueprint.arguments(queries.ListQuery(), location="query")
@blueprint.response(
    200,
    schemas.GetJobsApiResponse(),
    description="The jobs of the page",
    produces=queries.JSON_OR_CSV,
)
def list_jobs(context: Context, query: dict[str, Any]) -> Response:
    """List jobs, the latest first unless sort has another order.

    Filters, order, page and page size are query parameters. A page past the end is empty; a page
    may be as large as the list. The header Link has the address of the next page.
    """
    return job_list.respond(context, ListRequest.parse(context, query))


@blueprint.route("/<int:id>", Role.READER, methods=["GET"], tags=schemas.QUERY, cached=True)
@blueprint.response(200, schemas.JobMeta(), description="The job")
def get_job(context: Context, *, id: int) -> dict[str, Any]:
    """Show the job with a database id.

    The answer has all fields, including metaData.
    """
    with context.database.connection() as conn:
        job = jobs.get(conn, id, context.scope)
    if job is None:
        raise UnknownJob.with_id(id)
    return job_meta(job, now())


@blueprint.route(
    "/start_job/", Role.WRITER, methods=["POST"], tags=schemas.CHANGE, errors=[422], alias="PUT"
)
@blueprint.arguments(schemas.JobMeta(), description="The job that starts")
@blueprint.response(201, schemas.StartJobApiResponse(), description="The job is registered")
def start_job(context: Context, job: NewJob) -> dict[str, Any]:
    """Register a job as running.

    The answer follows the commit. A start that was reported before is refused with 422; the
    message has the database id. PUT does the same.
    """
    id_ = lifecycle.start(context, job)
    request_log.current().job = id_
    return {"id": id_}


@blueprint.route(
    "/stop_job/",
    Role.WRITER,
    methods=["POST"],
    tags=schemas.CHANGE,
    errors=[404, 422],
    undocumented=["consumes"],
    alias="PUT",
)
@blueprint.arguments(
    schemas.StopJobApiRequest(),
    description="Which job ended, when and how; jobId is required here",
)
@blueprint.response(200, schemas.JobMeta(), description="The stopped job")
def stop_job(context: Context, stop: dict[str, Any]) -> dict[str, Any]:
    """Stop the job that the body describes, and archive it.

    A running match is preferred to finished ones. monitoringStatus of the answer shows the
    result of archiving: 3 archived, 2 failed, 0 disabled. PUT does the same.
    """
    job = lifecycle.stop(context, selection(stop), end(stop))
    request_log.current().job = job.id
    return job_meta(job, now())


@blueprint.route(
    "/stop_job/<id>", Role.WRITER, methods=["POST"], tags=schemas.CHANGE, errors=[422], alias="PUT"
)
@blueprint.arguments(schemas.StopJobApiRequest(), description="When the job ended and how")
@blueprint.response(200, schemas.JobMeta(), description="The stopped job")
def stop_job_by_id(context: Context, stop: dict[str, Any], *, id: int) -> dict[str, Any]:
    """Stop the job with a database id, and archive it.

    Only stopTime, jobState and metaData of the body count. PUT does the same.
    """
    return job_meta(lifecycle.stop_by_id(context, id, end(stop)), now())


def selection(stop: Mapping[str, Any]) -> JobSelection:
    """Return which job a stop selects; raises InvalidInput without a jobId."""
    job_id = stop.get("job_id")
    if job_id is None:
        raise InvalidInput.of("jobId", "is required, unless the database id is in the path")
    return JobSelection(job_id, stop.get("cluster"), stop.get("start_time"))


def end(stop: Mapping[str, Any]) -> End:
    """Return how and when a job ended."""
    return End(stop["job_state"], stop["stop_time"], stop.get("meta_data"))


@blueprint.route(
    "/tag_job/<id>",
    Role.WRITER,
    methods=["POST"],
    tags=schemas.CHANGE,
    undocumented=[403],
    alias="PATCH",
)
@blueprint.arguments(schemas.ApiTag(many=True), description="The tags to add")
@blueprint.response(200, schemas.Job(), description="The tagged job")
def tag_job(context: Context, tags: list[Tag], *, id: int) -> dict[str, Any]:
    """Add tags to the job with a database id.

    All of them are added, or none; a tag that the job already has is not added twice. If the job
    is archived, its meta.json is updated before the answer. PATCH does the same.
    """
    return job_with_timestamp(edits.tag(context, id, tags), now())


@blueprint.route(
    "/delete_job/", Role.ADMIN, methods=["DELETE"], tags=schemas.REMOVE, errors=[404, 422]
)
@blueprint.arguments(schemas.DeleteJobApiRequest(), description="Which job to delete")
@blueprint.response(200, schemas.DeleteJobApiResponse(), description="The job is deleted")
def delete_job(context: Context, body: dict[str, Any]) -> dict[str, Any]:
    """Delete the job that the body describes from the database.

    Nothing is deleted when more than one job matches. The archive is not touched.
    """
    id_ = deletion.delete(
        context, JobSelection(body["job_id"], body.get("cluster"), body.get("start_time"))
    )
    request_log.current().job = id_
    return {"msg": f"deleted the job with database id {id_}"}


@blueprint.route(
    "/delete_job/<id>", Role.ADMIN, methods=["DELETE"], tags=schemas.REMOVE, errors=[422]
)
@blueprint.response(200, schemas.DeleteJobApiResponse(), description="The job is deleted")
def delete_job_by_id(context: Context, *, id: int) -> dict[str, Any]:
    """Delete the job with a database id from the database.

    The archive is not touched.
    """
    deletion.delete_by_id(context, id)
    return {"msg": f"deleted the job with database id {id}"}


@blueprint.route(
    "/delete_job_before/<ts>", Role.ADMIN, methods=["DELETE"], tags=schemas.REMOVE, errors=[422]
)
@blueprint.arguments(queries.DeleteBeforeQuery(), location="query")
@blueprint.response(200, schemas.DeleteJobApiResponse(), description="The jobs are deleted")
def delete_job_before(context: Context, query: dict[str, Any], *, ts: int) -> dict[str, Any]:
    """Delete every job that started before a time from the database.

    The state of a job does not matter, and deleting no job is a success. The archive is not
    touched.
    """
    deleted = deletion.delete_before(context, ts, omit_tagged=query.get("omit_tagged", False))
    jobs = "job that" if deleted == 1 else "jobs that"
    return {"msg": f"deleted {deleted} {jobs} started before {ts}"}
