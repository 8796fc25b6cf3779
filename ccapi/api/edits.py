"""What an administrator puts right of jobs afterwards."""

from typing import Any

from flask import Response
from marshmallow import ValidationError, post_load

from ccapi.api.schemas import ApiTag, Job, JobMeta
from ccapi.api.serializers import answer, job_meta, job_with_timestamp, now
from ccapi.http.auth import current_token
from ccapi.http.blueprint import Blueprint, Documented
from ccapi.http.current import context
from ccapi.http.fields import Integer, TextMap, final_state
from ccapi.http.schema import ContractSchema
from ccapi.model.job import Tag
from ccapi.model.rules import MAX_EPOCH_SECOND
from ccapi.model.token import Role
from ccapi.service import edits
from ccapi.service.edits import End

blueprint = Blueprint("corrections", __name__, url_prefix="/api/jobs")

_CHANGE = "add and modify"


class CorrectJobRequest(ContractSchema):
    """How a job really ended."""

    class Meta(ContractSchema.Meta):
        """Its place in the document."""

        name = "api.CorrectJobApiRequest"

    job_state = final_state(
        data_key="jobState",
        metadata={"description": "How the job ended", "example": "timeout"},
    )
    stop_time = Integer(
        data_key="stopTime",
        least=1,
        most=MAX_EPOCH_SECOND,
        metadata={"description": "Stop, in epoch seconds", "example": 1649763839},
    )

    @post_load
    def _to_model(self, data: dict[str, Any], **_: Any) -> End:
        if not data:
            raise ValidationError("must have jobState or stopTime, or both")
        return End(data.get("job_state"), data.get("stop_time"))


class EditMetaRequest(ContractSchema):
    """Changes of a job's metadata."""

    class Meta(ContractSchema.Meta):
        """Its place in the document."""

        name = "api.EditMetaApiRequest"

    meta_data = TextMap(
        data_key="metaData",
        required=True,
        removable=True,
        metadata={"description": "Keys to set; null removes one"},
    )


@blueprint.operation(
    "/correct_job/<id>",
    "POST",
    Role.ADMIN,
    Documented(
        group=_CHANGE,
        answer=(200, JobMeta(), "The corrected job"),
        errors=(400, 401, 403, 404, 422, 500),
        body="How and when the job really ended",
        consumes=True,
    ),
    body=CorrectJobRequest(),
)
def correct_job(end: End, *, id: int) -> Response:  # noqa: A002 - the contract's name
    """Correct how or when the job with a database id ended.

    What is not given stays. An archived job's file says the same before the answer. The
    former values stay in the job's history (`ccapi jobs history`), with time and token. A
    running job is refused with 422.
    """
    corrected = edits.correct_end(context(), id, end, current_token().name)
    return answer(job_meta(corrected, now()))


@blueprint.operation(
    "/tag_job/<id>",
    "DELETE",
    Role.ADMIN,
    Documented(
        group="remove",
        answer=(200, Job(), "The job without the tags"),
        errors=(400, 401, 403, 404, 500),
        body="The tags to remove",
        consumes=True,
    ),
    body=ApiTag(many=True),
)
def untag_job(tags: list[Tag], *, id: int) -> Response:  # noqa: A002 - the contract's name
    """Remove tags from the job with a database id.

    A tag that the job does not have is passed over. An archived job's file is without the
    tags before the answer.
    """
    return answer(job_with_timestamp(edits.untag(context(), id, tags), now()))


@blueprint.operation(
    "/edit_meta/<id>",
    "POST",
    Role.ADMIN,
    Documented(
        group=_CHANGE,
        answer=(200, JobMeta(), "The job with its metadata"),
        errors=(400, 401, 403, 404, 500),
        body="The keys to set, and with null to remove",
        consumes=True,
    ),
    body=EditMetaRequest(),
    also="PATCH",
)
def edit_meta(body: dict[str, Any], *, id: int) -> Response:  # noqa: A002 - the contract's name
    """Set and remove keys of the metadata of the job with a database id.

    Keys that are not given stay. An archived job's file has the same before the answer.
    PATCH does the same.
    """
    job = edits.edit_meta_data(context(), id, body["meta_data"])
    return answer(job_meta(job, now()))
