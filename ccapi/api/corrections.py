"""What an administrator puts right of jobs afterwards."""

from typing import Any

from flask import Response, g
from marshmallow import ValidationError, post_load

from ccapi.api.blueprint import Blueprint, Documented
from ccapi.api.contract_schema import ContractSchema
from ccapi.api.fields import Integer, final_state
from ccapi.api.representation import answer, job_meta, now
from ccapi.api.schemas import JobMeta
from ccapi.api.state import registry
from ccapi.model.job import LAST_EPOCH_SECOND
from ccapi.model.token import Role
from ccapi.service import correcting
from ccapi.service.correcting import End

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
        most=LAST_EPOCH_SECOND,
        metadata={"description": "Stop, in epoch seconds", "example": 1649763839},
    )

    @post_load
    def _to_model(self, data: dict[str, Any], **_: Any) -> End:
        if not data:
            raise ValidationError("must have jobState or stopTime, or both")
        return End(data.get("job_state"), data.get("stop_time"))


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
    return answer(job_meta(correcting.correct(registry(), id, end, g.token_name), now()))
