"""The operations that edit finished jobs."""

from collections.abc import Mapping
from typing import Any, ClassVar

from marshmallow import ValidationError

from ccapi.api import fields as job_fields
from ccapi.api.fields import final_state
from ccapi.api.schemas import CHANGE, REMOVE, ApiTag, Job, JobMeta
from ccapi.api.serializers import job_meta, job_with_timestamp, now
from ccapi.context import Context
from ccapi.http.auth import current_token
from ccapi.http.blueprint import Blueprint
from ccapi.http.schema import ContractSchema, TextMap, describe
from ccapi.model.job import Tag
from ccapi.model.token import Role
from ccapi.service import edits
from ccapi.service.edits import End

blueprint = Blueprint("edits", __name__, url_prefix="/api/jobs")


class CorrectJobRequest(ContractSchema):
    """How a job really ended."""

    definition = "api.CorrectJobApiRequest"
    example: ClassVar[Mapping[str, Any]] = {"jobState": "timeout"}
    job_state = final_state("How the job ended", example="timeout")
    stop_time = job_fields.epoch_second("stopTime", "Stop", example=1649763839)

    def build(self, values: dict[str, Any]) -> End:
        """Return the corrected end."""
        if not values:
            raise ValidationError("must have jobState or stopTime, or both")
        return End(values.get("job_state"), values.get("stop_time"))


class EditMetaRequest(ContractSchema):
    """Changes of a job's metadata."""

    definition = "api.EditMetaApiRequest"
    example: ClassVar[Mapping[str, Any]] = {"metaData": {"jobName": "rotor"}}
    meta_data = TextMap(
        data_key="metaData",
        required=True,
        nullable_values=True,
        metadata=describe("Keys to set; null removes one"),
    )


@blueprint.route("/correct_job/<id>", Role.ADMIN, methods=["POST"], tags=CHANGE, errors=[422])
@blueprint.arguments(CorrectJobRequest(), description="How and when the job really ended")
@blueprint.response(200, JobMeta(), description="The corrected job")
def correct_job(context: Context, end: End, *, id: int) -> dict[str, Any]:
    """Correct how or when the job with a database id ended.

    What the body does not mention stays. An archived job's file has the same before the answer.
    The former values stay in the job's history (`ccapi jobs history`), with time and token. A
    running job is refused with 422.
    """
    return job_meta(edits.correct_end(context, id, end, current_token().name), now())


@blueprint.route("/tag_job/<id>", Role.ADMIN, methods=["DELETE"], tags=REMOVE)
@blueprint.arguments(ApiTag(many=True), description="The tags to remove")
@blueprint.response(200, Job(), description="The job without the tags")
def untag_job(context: Context, tags: list[Tag], *, id: int) -> dict[str, Any]:
    """Remove tags from the job with a database id.

    A tag that the job does not have is skipped. An archived job's file is without the tags
    before the answer.
    """
    return job_with_timestamp(edits.untag(context, id, tags), now())


@blueprint.route("/edit_meta/<id>", Role.ADMIN, methods=["POST"], tags=CHANGE, alias="PATCH")
@blueprint.arguments(EditMetaRequest(), description="The keys to set and, with null, to remove")
@blueprint.response(200, JobMeta(), description="The job with its metadata")
def edit_meta(context: Context, body: dict[str, Any], *, id: int) -> dict[str, Any]:
    """Set and remove keys of the metadata of the job with a database id.

    Keys that the body does not mention stay. An archived job's file has the same before the
    answer. PATCH does the same.
    """
    return job_meta(edits.edit_meta_data(context, id, body["meta_data"]), now())
