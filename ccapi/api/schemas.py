"""The contract's definitions: requests are checked against them, and the document shows them."""

from collections.abc import Mapping
from typing import Any, ClassVar

from marshmallow import fields, post_load

from ccapi.api import fields as job_fields
from ccapi.api.fields import State, final_state
from ccapi.http.schema import (
    ContractSchema,
    Count,
    Integer,
    IntegerList,
    Number,
    NumberMap,
    ObjectMap,
    Objects,
    OptionalNumber,
    OptionalText,
    Text,
    TextList,
    TextMap,
    describe,
)
from ccapi.model import compat, rules
from ccapi.model.job import JobState, NewJob, Tag

# The groups of operations in the document.
QUERY = ["query"]
CHANGE = ["add and modify"]
REMOVE = ["remove"]


class ApiTag(ContractSchema):
    """A tag to add or to remove."""

    definition = "api.ApiTag"
    also_required = ("type", "name")
    dropped = frozenset(("scope", "id"))
    type = Text(rules.TAG, metadata=describe("Kind of tag", example="Debug"))
    name = Text(rules.TAG, metadata=describe("Name of tag", example="Testjob"))

    @post_load
    def _build(self, values: dict[str, Any], **_: Any) -> Tag:
        return Tag(values["type"], values["name"])


class TagSchema(ApiTag):
    """A tag of a job."""

    class Meta(ContractSchema.Meta):
        description = "A label, made of a type and a name."

    definition = "schema.Tag"
    dropped = frozenset(("scope",))
    id = Integer(rules.COUNT, metadata=describe("Database id of the tag"))


class Resource(ContractSchema):
    """A node, or a part of one, that a job uses."""

    class Meta(ContractSchema.Meta):
        description = "A node, or a part of one, that a job uses."

    definition = "schema.Resource"
    also_required = ("hostname",)
    hostname = Text(rules.HOSTNAME, metadata=describe("Name of the node"))
    hwthreads = IntegerList(
        rules.HWTHREADS, metadata=describe("Hardware threads, as the system numbers them")
    )
    accelerators = TextList(rules.ACCELERATORS, metadata=describe("Device ids of the accelerators"))
    configuration = Text(
        rules.CONFIGURATION, metadata=describe("How the node was set up for the job")
    )


class JobStatistics(ContractSchema):
    """A metric over the whole job."""

    class Meta(ContractSchema.Meta):
        description = "One metric over all nodes and the whole run of a job."

    definition = "schema.JobStatistics"
    unit = Text(rules.TEXT, metadata=describe("Unit of the metric, prefix included", example="GHz"))
    avg = Number(rules.STATISTIC, metadata=describe("Mean of the metric", example=2500, minimum=0))
    min = Number(
        rules.STATISTIC, metadata=describe("Smallest value of the metric", example=2000, minimum=0)
    )
    max = Number(
        rules.STATISTIC, metadata=describe("Largest value of the metric", example=3000, minimum=0)
    )

    @post_load
    def _build(self, values: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {"unit": "", **values}


class BaseJob(ContractSchema):
    """The fields that both definitions of a job share."""

    id = Integer(rules.COUNT, metadata=describe("Database id of the job"))
    job_id = job_fields.job_id()
    user_name = Text(
        rules.USER,
        data_key="user",
        metadata=describe("Account name of the job's owner", example="abcd100h"),
    )
    project = Text(rules.PROJECT, metadata=describe("Project charged", example="abcd200"))
    cluster = job_fields.cluster("Cluster that runs the job")
    sub_cluster = Text(
        rules.SUB_CLUSTER,
        data_key="subCluster",
        metadata=describe("Part of the cluster with the same kind of nodes", example="main"),
    )
    partition = OptionalText(
        rules.PARTITION,
        metadata=describe("Partition the job was submitted to", example="main"),
    )
    array_job_id = Count(
        rules.COUNT,
        data_key="arrayJobId",
        metadata=describe("Job id of the array's first job", example=123000),
    )
    num_nodes = Count(
        rules.COUNT,
        data_key="numNodes",
        metadata=describe("Number of nodes", example=2, minimum=1),
    )
    num_hwthreads = Count(
        rules.COUNT,
        data_key="numHwthreads",
        metadata=describe("Number of hardware threads", example=20, minimum=1),
    )
    num_acc = Count(
        rules.COUNT,
        data_key="numAcc",
        metadata=describe("Number of accelerators", example=2, minimum=1),
    )
    exclusive = Integer(
        rules.EXCLUSIVE,
        metadata=describe(
            "Who else may use the nodes: 0 jobs of anybody, 1 nobody (default), "
            "2 jobs of the same user",
            example=1,
            minimum=0,
            maximum=2,
        ),
    )
    monitoring_status = Integer(
        rules.MONITORING_STATUS,
        data_key="monitoringStatus",
        metadata=describe(
            "State of the monitoring: 0 disabled, 1 running or archiving (default), "
            "2 archiving failed, 3 archived",
            example=1,
            minimum=0,
            maximum=3,
        ),
    )
    shared = Text(
        rules.TEXT,
        metadata=describe(
            "Who else may use the nodes, as newer clients say it: none is exclusive 1, "
            "single_user 2, multi_user 0",
            example="none",
        ),
    )
    smt = Count(rules.COUNT, metadata=describe("Hardware threads used per core", example=4))
    walltime = Count(
        rules.COUNT, metadata=describe("Time limit in seconds", example=86400, minimum=1)
    )
    submit_time = Count(
        rules.IntegerRule(max=rules.MAX_EPOCH_SECOND),
        data_key="submitTime",
        metadata=describe("Submission, in epoch seconds", example=1649723700),
    )
    requested_memory = Count(
        rules.COUNT,
        data_key="requestedMemory",
        metadata=describe("Memory requested, in MB", example=128000),
    )
    energy = OptionalNumber(rules.NUMBER, metadata=describe("Energy used", example=1.5))
    energy_footprint = NumberMap(
        data_key="energyFootprint", metadata=describe("Energy used, by source")
    )
    footprint = NumberMap(metadata=describe("Key figures of the whole job, by name"))
    job_state = State(
        [JobState.RUNNING],
        data_key="jobState",
        metadata=describe("State of the job", example="completed"),
    )
    duration = Integer(
        rules.COUNT, metadata=describe("Run time in seconds", example=43200, minimum=1)
    )
    resources = Objects(
        Resource(), metadata=describe("Nodes used, with the threads and devices on each")
    )
    meta_data = TextMap(
        data_key="metaData", metadata=describe("Additional information about the job")
    )
    tags = Objects(TagSchema(), max_items=rules.MAX_TAGS, metadata=describe("Labels of the job"))


class JobMeta(BaseJob):
    """A job as it is reported, listed and archived."""

    class Meta(ContractSchema.Meta):
        description = "A job of the batch system."

    definition = "schema.JobMeta"
    # A start as well as an answer: the page /api/docs sends it.
    example: ClassVar[Mapping[str, Any] | None] = {
        "id": 1,
        "jobId": 123000,
        "user": "abcd100h",
        "project": "abcd200",
        "cluster": "fritz",
        "subCluster": "main",
        "partition": "multinode",
        "numNodes": 2,
        "numHwthreads": 4,
        "exclusive": 1,
        "smt": 1,
        "jobState": "running",
        "startTime": 1649723812,
        "duration": 43200,
        "walltime": 86400,
        "monitoringStatus": 1,
        "resources": [
            {"hostname": "f0101", "hwthreads": [0, 1]},
            {"hostname": "f0102", "hwthreads": [0, 1]},
        ],
        "tags": [{"type": "Debug", "name": "Testjob"}],
        "statistics": {"clock": {"unit": "GHz", "avg": 2.5, "min": 2, "max": 3}},
        "metaData": {"jobName": "rotor"},
    }
    also_required = ("jobId", "user", "cluster", "startTime", "resources")
    start_time = job_fields.epoch_second("startTime", "Start", minimum=1)
    statistics = ObjectMap(JobStatistics(), metadata=describe("Metrics of the whole job, by name"))

    def translate(self, data: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return a job's fields from any dialect of the family, and its unknown keys."""
        return compat.translate_job(data)

    @post_load
    def _build(self, values: dict[str, Any], **_: Any) -> NewJob:
        for ignored in ("id", "duration", "job_state"):
            values.pop(ignored, None)
        return NewJob(**values)


class Job(BaseJob):
    """A job as tagging answers it."""

    class Meta(ContractSchema.Meta):
        description = "A job of the batch system, its start as a time stamp."

    definition = "schema.Job"
    start_time = fields.String(
        data_key="startTime", metadata=describe("Start, as an RFC 3339 time stamp in UTC")
    )


class StartJobApiResponse(ContractSchema):
    """The answer to a start."""

    definition = "api.StartJobApiResponse"
    id = Integer(rules.COUNT, metadata=describe("Database id of the new job"))


class StopJobApiRequest(ContractSchema):
    """Which job ended, when and how."""

    definition = "api.StopJobApiRequest"
    job_id = job_fields.job_id()
    cluster = job_fields.cluster("Cluster of the job")
    start_time = job_fields.epoch_second("startTime", "Start")
    stop_time = job_fields.epoch_second("stopTime", "Stop", required=True, example=1649763839)
    job_state = final_state("How the job ended", required=True, example="completed")
    meta_data = TextMap(data_key="metaData", metadata=describe("Metadata to add to the job's"))

    def translate(self, data: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return the body with the contract's word for the state, and its unknown keys."""
        values, unknown = super().translate(data)
        if isinstance(values.get("jobState"), str):
            values["jobState"] = compat.translate_state(values["jobState"])
        return values, unknown


class DeleteJobApiRequest(ContractSchema):
    """Which job to delete."""

    definition = "api.DeleteJobApiRequest"
    job_id = job_fields.job_id(required=True)
    cluster = job_fields.cluster("Cluster of the job")
    start_time = job_fields.epoch_second("startTime", "Start")


class DeleteJobApiResponse(ContractSchema):
    """The answer to a deletion."""

    definition = "api.DeleteJobApiResponse"
    msg = fields.String()


class GetJobsApiResponse(ContractSchema):
    """A page of jobs."""

    definition = "api.GetJobsApiResponse"
    jobs = fields.List(fields.Nested(JobMeta()), metadata=describe("The jobs of this page"))
    items = fields.Integer(metadata=describe("Number of jobs in this answer"))
    page = fields.Integer(metadata=describe("Number of this page"))
    next_cursor = fields.String(
        data_key="nextCursor",
        metadata=describe("The cursor of the next page; empty at the end of the list"),
    )
    total = fields.Integer(metadata=describe("Number of all jobs that match, if requested"))
    total_is_estimate = fields.Boolean(
        data_key="totalIsEstimate", metadata=describe("Whether total is an estimate; only if it is")
    )
