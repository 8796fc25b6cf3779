"""The operations that read the archive."""

from collections.abc import Mapping
from typing import Any, ClassVar

from flask import Response

from ccapi.api import schemas
from ccapi.context import Context
from ccapi.http.blueprint import Blueprint
from ccapi.http.json_format import CONTENT_TYPE
from ccapi.http.schema import ContractSchema, QueryInteger, QuerySchema, Text, describe
from ccapi.model import rules
from ccapi.model.job import JobKey
from ccapi.model.token import Role
from ccapi.service import archived_job

blueprint = Blueprint("archive", __name__, url_prefix="/api/jobs")


class RunQuery(QuerySchema):
    """Which run of a job."""

    cluster = Text(rules.CLUSTER, required=True, metadata=describe("Cluster of the job"))
    job_id = QueryInteger(
        data_key="jobId",
        required=True,
        metadata=describe("Number of the job in the batch system"),
    )
    start_time = QueryInteger(
        data_key="startTime", required=True, metadata=describe("Start, in epoch seconds")
    )


class ArchivedJob(ContractSchema):
    """A job's meta.json."""

    definition = "api.ArchivedJob"
    json_schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "description": "The job's meta.json: the fields of JobMeta without id, and maybe others.",
    }


@blueprint.route("/<int:id>/archive", Role.READER, methods=["GET"], tags=schemas.QUERY)
@blueprint.response(200, ArchivedJob(), description="The job's meta.json")
def get_archived_job(context: Context, *, id: int) -> Response:
    """Show the meta.json of the job with a database id.

    It is as the archive has it: units are objects, and tags have no ids.
    """
    return Response(archived_job.read_by_id(context, id), content_type=CONTENT_TYPE)


@blueprint.route("/archive", Role.READER, methods=["GET"], tags=schemas.QUERY, errors=[404])
@blueprint.arguments(RunQuery(), location="query")
@blueprint.response(200, ArchivedJob(), description="The job's meta.json")
def get_archived_run(context: Context, query: dict[str, Any]) -> Response:
    """Show the meta.json of a job that may be in the archive only.

    Jobs that were deleted from the database are found, too.
    """
    key = JobKey(query["cluster"], query["job_id"], query["start_time"])
    return Response(archived_job.read(context, key), content_type=CONTENT_TYPE)
