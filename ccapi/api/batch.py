"""The operation that starts and stops many jobs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import orjson
from flask import Response, request
from marshmallow import ValidationError, fields
from orjson import Fragment

from ccapi import metrics
from ccapi.api import jobs, schemas
from ccapi.api.serializers import job_meta, now, wants_unit_objects
from ccapi.context import Context
from ccapi.errors import CcapiError, InvalidInput
from ccapi.http import errors
from ccapi.http.blueprint import Blueprint
from ccapi.http.parser import invalid_input, parse_json, read_lines
from ccapi.http.schema import ContractSchema, describe
from ccapi.model.job import Job
from ccapi.model.token import Role
from ccapi.service import batch
from ccapi.service.batch import Command

blueprint = Blueprint("batch", __name__, url_prefix="/api/jobs")

CONTENT_TYPE = "application/x-ndjson"
_BODIES: Mapping[str, ContractSchema] = {
    "start": schemas.JobMeta(),
    "stop": schemas.StopJobApiRequest(),
}
_EXAMPLE = (
    {
        "start": {
            "jobId": 123001,
            "user": "abcd100h",
            "cluster": "fritz",
            "startTime": 1649723812,
            "resources": [{"hostname": "f0101"}],
        }
    },
    {
        "stop": {
            "jobId": 123001,
            "cluster": "fritz",
            "stopTime": 1649763839,
            "jobState": "completed",
        }
    },
)


class BatchLine(ContractSchema):
    """A line of the body: a start or a stop."""

    definition = "api.BatchApiRequest"
    json_schema: ClassVar[dict[str, Any]] = {
        "type": "string",
        "example": "\n".join(orjson.dumps(line).decode() for line in _EXAMPLE),
    }
    start = fields.Nested(_BODIES["start"])
    stop = fields.Nested(_BODIES["stop"])


class BatchAnswer(ContractSchema):
    """A line of the answer."""

    definition = "api.BatchApiResponse"
    line = fields.Integer(metadata=describe("Number of the line in the request, from 1"))
    status = fields.Integer(metadata=describe("Status that a request of this line alone gets"))
    body = fields.Dict(metadata=describe("Body that a request of this line alone gets"))


_LINE = BatchLine()


@blueprint.route("/batch/", Role.WRITER, methods=["POST"], tags=schemas.CHANGE)
@blueprint.raw_body(
    _LINE, content_type=CONTENT_TYPE, description="A JSON object on each line: a start or a stop"
)
@blueprint.response(
    200,
    BatchAnswer(),
    description="A line for each line of the request, in order",
    produces=[CONTENT_TYPE],
)
def run_batch(context: Context) -> Response:
    """Run up to 1,000 starts and stops, in order.

    A line is {"start": body of start_job} or {"stop": body of stop_job}. The answer has a line
    for each, with the status and the body that the request alone gets. A bad line does not
    affect others, and what is answered is committed.
    """
    numbers: list[int] = []
    commands: list[Command | CcapiError] = []
    for number, line in read_lines(request):
        numbers.append(number)
        try:
            commands.append(_parse(line))
        except CcapiError as error:
            commands.append(error)
    with_unit_objects = wants_unit_objects()
    return Response(
        _answer(context, numbers, commands, with_unit_objects=with_unit_objects),
        content_type=CONTENT_TYPE,
    )


def _parse(line: bytes) -> Command:
    """Parse a line with the rules of the single requests; raises InvalidInput."""
    data = parse_json(line, "the line")
    if not isinstance(data, dict):
        raise InvalidInput("the line must be an object, in JSON")
    operations = _LINE.known_fields(data)
    if len(operations) != 1:
        raise InvalidInput('the line must have either "start" or "stop"')
    [(operation, body)] = operations.items()
    if not isinstance(body, dict):
        raise InvalidInput("the body must be an object, in JSON")
    try:
        loaded = _BODIES[operation].load(body)
    except ValidationError as error:
        raise invalid_input(error.normalized_messages()) from None
    return loaded if operation == "start" else batch.Stop(jobs.selection(loaded), jobs.end(loaded))


def _answer(
    context: Context,
    numbers: Sequence[int],
    commands: Sequence[Command | CcapiError],
    *,
    with_unit_objects: bool,
) -> Iterator[bytes]:
    """Run the commands, and yield the answer's lines, some at a time."""
    following = iter(numbers)
    for outcomes in batch.run(context, commands):
        lines = []
        for outcome in outcomes:
            body: Any = {"id": outcome}
            status = 201
            if isinstance(outcome, Job):
                status, body = 200, job_meta(outcome, now(), with_unit_objects=with_unit_objects)
            elif isinstance(outcome, Exception):
                metrics.child(metrics.REJECTED_REQUESTS, type(outcome).__name__).inc()
                status, error = errors.describe(outcome)
                body = Fragment(error.rstrip())
            metrics.child(metrics.BATCH_LINES, status).inc()
            line = {"line": next(following), "status": status, "body": body}
            lines.append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        yield b"".join(lines)
