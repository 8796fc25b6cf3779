"""The operations that edit jobs."""

from collections.abc import Mapping
from typing import Any, ClassVar

from marshmallow import ValidationError, fields, post_load

from ccapi.api import fields as job_fields
from ccapi.api.fields import final_state
from ccapi.api.schemas import CHANGE, REMOVE, ApiTag, Job, JobMeta, JobStatistics, Resource
from ccapi.api.serializers import job_meta, job_with_timestamp, now
from ccapi.context import Context
from ccapi.http import request_log
from ccapi.http.auth import current_token
from ccapi.http.blueprint import Blueprint
from ccapi.http.schema import ContractSchema, Count, ObjectMap, Objects, TextMap, describe
from ccapi.model import compat, rules
from ccapi.model.job import Allocation, JobSelection, Tag
from ccapi.model.rules import count_hosts, match_keys
from ccapi.model.token import Role
from ccapi.service import edits
from ccapi.service.edits import End

_META_DATA = frozenset(("metaData",))
blueprint = Blueprint("edits", __name__, url_prefix="/api/jobs")


class CorrectJobRequest(ContractSchema):
    """How a job really ended."""

    definition = "api.CorrectJobApiRequest"
    example: ClassVar[Mapping[str, Any]] = {"jobState": "timeout"}
    job_state = final_state("How the job ended", example="timeout")
    stop_time = job_fields.epoch_second("stopTime", "Stop", example=1649763839)

    @post_load
    def _build(self, values: dict[str, Any], **_: Any) -> End:
        if not values:
            raise ValidationError("must have jobState or stopTime, or both")
        return End(values.get("job_state"), values.get("stop_time"))


class ResizeJobRequest(ContractSchema):
    """The nodes of a running job from some time on."""

    definition = "api.ResizeJobApiRequest"
    example: ClassVar[Mapping[str, Any]] = {
        "jobId": 123000,
        "resizeTime": 1649730000,
        "resources": [{"hostname": "f0101", "hwthreads": [0, 1]}],
        "numHwthreads": 2,
    }
    job_id = job_fields.job_id(required=True)
    cluster = job_fields.cluster("Cluster of the job")
    start_time = job_fields.epoch_second("startTime", "Start")
    resize_time = job_fields.epoch_second(
        "resizeTime", "Time of the change", required=True, example=1649730000
    )
    resources = Objects(
        Resource(),
        required=True,
        metadata=describe("All nodes of the job, with the threads and devices on each"),
    )
    num_nodes = Count(rules.COUNT, data_key="numNodes", metadata=describe("Number of nodes"))
    num_hwthreads = Count(
        rules.COUNT, data_key="numHwthreads", metadata=describe("Number of hardware threads")
    )
    num_acc = Count(rules.COUNT, data_key="numAcc", metadata=describe("Number of accelerators"))

    @post_load
    def _build(self, values: dict[str, Any], **_: Any) -> dict[str, Any]:
        resources = values["resources"]
        hosts = [resource["hostname"] for resource in resources]
        allocation = Allocation(
            resources=resources,
            num_nodes=count_hosts(hosts, values.get("num_nodes")),
            num_hwthreads=values.get("num_hwthreads"),
            num_acc=values.get("num_acc"),
        )
        return {**values, "allocation": allocation}


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

    def translate(self, data: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Accept {"metaData": {"note": "x"}}, {"key": "note", "value": "x"}, {"note": "x"}."""
        fields, unknown = match_keys(data, _META_DATA)
        plain = {key: value for key, value in data.items() if key.lower() != "metadata"}
        if fields or not plain:
            return fields, unknown
        names = {key.lower(): key for key in plain}
        key, value = names.get("key"), names.get("value")
        if key is not None and value is not None and isinstance(plain[key], str):
            ignored = [name for name in plain if name not in {key, value}]
            return {"metaData": {plain[key]: plain[value]}}, ignored
        return {"metaData": plain}, []


class EditMetaByRequest(ContractSchema):
    """A job, and a change of its metadata."""

    definition = "api.EditMetaByRequestApiRequest"
    example: ClassVar[Mapping[str, Any]] = {
        "jobId": 123000,
        "payload": {"key": "note", "value": "checked"},
    }
    job_id = job_fields.job_id(required=True)
    cluster = job_fields.cluster("Cluster of the job")
    start_time = job_fields.epoch_second("startTime", "Start")
    payload = fields.Nested(
        EditMetaRequest(),
        required=True,
        error_messages={"null": "must be an object"},
        metadata=describe("The change, as edit_meta/{id} accepts it"),
    )


class StatisticsRequest(ContractSchema):
    """A job's statistics: an object, metric -> {unit, avg, min, max}."""

    definition = "api.StatisticsApiRequest"
    example: ClassVar[Mapping[str, Any]] = {
        "mem_bw": {"unit": "GB/s", "avg": 40, "min": 1, "max": 90}
    }
    json_schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "additionalProperties": {"$ref": "#/definitions/schema.JobStatistics"},
        "example": example,
    }
    statistics = ObjectMap(JobStatistics(), required=True)

    def translate(self, data: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return the metrics as one field."""
        metrics, unknown = compat.translate_statistics(data)
        return {"statistics": metrics}, unknown


@blueprint.route("/correct_job/<id>", Role.ADMIN, methods=["POST"], tags=CHANGE, errors=[422])
@blueprint.arguments(CorrectJobRequest(), description="How and when the job really ended")
@blueprint.response(200, JobMeta(), description="The corrected job")
def correct_job(context: Context, end: End, *, id: int) -> dict[str, Any]:
    """Correct how or when the job with a database id ended.

    Fields that the body omits keep their values. If the job is archived, its meta.json is
    updated before the answer. The former values stay in the job's history (`ccapi jobs
    history`), with time and token. A running job is refused with 422.
    """
    return job_meta(edits.correct_end(context, id, end, current_token().name), now())


@blueprint.route(
    "/resize_job/", Role.WRITER, methods=["POST"], tags=CHANGE, errors=[404, 422], alias="PUT"
)
@blueprint.arguments(ResizeJobRequest(), description="Which job, and its nodes from now on")
@blueprint.response(200, JobMeta(), description="The job with its present nodes")
def resize_job(context: Context, body: dict[str, Any]) -> dict[str, Any]:
    """Give a running job other nodes.

    The former hosts stay in its metadata, as nodeHistory. The same nodes again, or nodes from
    before the last change, leave the job as it is. A finished job is refused with 422. PUT does
    the same.
    """
    selection = JobSelection(body["job_id"], body.get("cluster"), body.get("start_time"))
    job = edits.resize(context, selection, body["allocation"], body["resize_time"])
    request_log.current().job = job.id
    return job_meta(job, now())


@blueprint.route("/tag_job/<id>", Role.ADMIN, methods=["DELETE"], tags=REMOVE)
@blueprint.arguments(ApiTag(many=True), description="The tags to remove")
@blueprint.response(200, Job(), description="The job without the tags")
def untag_job(context: Context, tags: list[Tag], *, id: int) -> dict[str, Any]:
    """Remove tags from the job with a database id.

    A tag that the job does not have is skipped. If the job is archived, its meta.json is updated
    before the answer.
    """
    return job_with_timestamp(edits.untag(context, id, tags), now())


@blueprint.route("/edit_meta/<id>", Role.WRITER, methods=["POST"], tags=CHANGE, alias="PATCH")
@blueprint.arguments(EditMetaRequest(), description="The keys to set and, with null, to remove")
@blueprint.response(200, JobMeta(), description="The job with its metadata")
def edit_meta(context: Context, body: dict[str, Any], *, id: int) -> dict[str, Any]:
    """Set and remove keys of the metadata of the job with a database id.

    Keys that the body omits stay. If the job is archived, its meta.json is updated before the
    answer. PATCH does the same.
    """
    return job_meta(edits.edit_meta_data(context, id, body["meta_data"]), now())


@blueprint.route(
    "/edit_meta/", Role.WRITER, methods=["PATCH"], tags=CHANGE, errors=[422], alias="POST"
)
@blueprint.arguments(EditMetaByRequest(), description="Which job, and the change")
@blueprint.response(200, JobMeta(), description="The job with its metadata")
def edit_meta_by_request(context: Context, body: dict[str, Any]) -> dict[str, Any]:
    """Set or remove keys of the metadata of the job that the body describes.

    A running match is preferred to finished ones. POST does the same.
    """
    selection = JobSelection(body["job_id"], body.get("cluster"), body.get("start_time"))
    job = edits.edit_meta_data_of(context, selection, body["payload"]["meta_data"])
    request_log.current().job = job.id
    return job_meta(job, now())


@blueprint.route("/statistics/<id>", Role.WRITER, methods=["PUT"], tags=CHANGE)
@blueprint.arguments(StatisticsRequest(), description="The statistics by metric")
@blueprint.response(200, JobMeta(), description="The job with its statistics")
def replace_statistics(context: Context, body: dict[str, Any], *, id: int) -> dict[str, Any]:
    """Replace the statistics of the job with a database id.

    The job may be running or finished. If it is archived, its meta.json is updated before the
    answer.
    """
    return job_meta(edits.replace_statistics(context, id, body["statistics"]), now())
