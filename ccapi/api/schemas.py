"""The contract's definitions: requests are checked against them, and the document shows them."""

from collections.abc import Mapping
from typing import Any, ClassVar

from marshmallow import fields

from ccapi.api import fields as job_fields
from ccapi.api.fields import ListCursor, QueryRange, QueryTag, State, final_state
from ccapi.http.schema import (
    ContractSchema,
    Count,
    Integer,
    IntegerList,
    Number,
    OptionalText,
    QueryBoolean,
    QueryChoice,
    QueryChoices,
    QueryInteger,
    QueryNames,
    QueryText,
    Text,
    TextList,
    TextMap,
    describe,
)
from ccapi.model import rules
from ccapi.model.job import JOB_META_FIELDS, JobState, NewJob, Tag

# The groups of operations in the document.
QUERY = ["query"]
CHANGE = ["add and modify"]
REMOVE = ["remove"]

FORMATS = ("json", "csv")
JSON_OR_CSV = ("application/json", "text/csv")
_NON_EMPTY = rules.TextRule(min_length=1)
# The contract's document lists only the first six states as choices of a filter.
_LISTED_STATES, _OTHER_STATES = [*JobState][:6], [*JobState][6:]


class ApiTag(ContractSchema):
    """A tag to add or to remove."""

    definition = "api.ApiTag"
    also_required = ("type", "name")
    type = Text(rules.TAG, metadata=describe("Kind of tag", example="Debug"))
    name = Text(rules.TAG, metadata=describe("Name of tag", example="Testjob"))

    def build(self, values: dict[str, Any]) -> Tag:
        """Return the tag, without a database id that the request may have."""
        return Tag(values["type"], values["name"])


class TagSchema(ApiTag):
    """A tag of a job."""

    class Meta(ContractSchema.Meta):
        description = "A label, made of a type and a name."

    definition = "schema.Tag"
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
    configuration = Text(rules.TEXT, metadata=describe("How the node was set up for the job"))


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

    def build(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the metric, with a unit."""
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
    smt = Count(rules.COUNT, metadata=describe("Hardware threads used per core", example=4))
    walltime = Count(
        rules.COUNT, metadata=describe("Time limit in seconds", example=86400, minimum=1)
    )
    job_state = State(
        [JobState.RUNNING],
        data_key="jobState",
        metadata=describe("State of the job", example="completed"),
    )
    duration = Integer(
        rules.COUNT, metadata=describe("Run time in seconds", example=43200, minimum=1)
    )
    resources = fields.List(
        fields.Nested(Resource(), error_messages={"null": "must be an object"}),
        metadata=describe("Nodes used, and what of them"),
    )
    meta_data = TextMap(data_key="metaData", metadata=describe("Whatever else is known of the job"))
    tags = fields.List(
        fields.Nested(TagSchema(), error_messages={"null": "must be an object"}),
        metadata=describe("Labels of the job"),
    )


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
    statistics = fields.Dict(
        keys=Text(rules.TEXT),
        values=fields.Nested(JobStatistics(), error_messages={"null": "must be an object"}),
        metadata=describe("Metrics of the whole job, by name"),
    )

    def build(self, values: dict[str, Any]) -> NewJob:
        """Return the job to register; raises InvalidInput."""
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


class ListQuery(ContractSchema):
    """Which jobs a list shows, and how much of each."""

    state = QueryChoices(
        JobState,
        metadata=describe(
            "Only jobs in this state; may be repeated, and may also be "
            f"{' or '.join(_OTHER_STATES)}",
            enum=_LISTED_STATES,
        ),
    )
    cluster = Text(rules.CLUSTER, metadata=describe("Only jobs of this cluster"))
    start_time = QueryRange(
        "epoch seconds",
        data_key="start-time",
        metadata=describe("Only jobs that started within FROM-TO, epoch seconds, both inclusive"),
    )
    items_per_page = QueryInteger(
        data_key="items-per-page", metadata=describe("Jobs on a page, 25 by default")
    )
    page = QueryInteger(metadata=describe("Number of the page, 1 by default"))
    with_metadata = QueryBoolean(
        data_key="with-metadata", metadata=describe("Show metaData (job scripts are large)")
    )
    stop_time = QueryRange(
        "epoch seconds",
        data_key="stop-time",
        metadata=describe("Only jobs that stopped within FROM-TO, epoch seconds, both inclusive"),
    )
    duration = QueryRange(
        "seconds",
        metadata=describe(
            "Only jobs that ran for FROM-TO seconds, both inclusive; running jobs run until now"
        ),
    )
    num_nodes = QueryRange(
        "nodes",
        data_key="num-nodes",
        metadata=describe("Only jobs on FROM-TO nodes, both inclusive"),
    )
    user_name = QueryText(_NON_EMPTY, data_key="user", metadata=describe("Only jobs of this user"))
    project = QueryText(
        rules.TEXT, metadata=describe("Only jobs of this project; empty: without a project")
    )
    sub_cluster = QueryText(
        rules.TEXT,
        data_key="sub-cluster",
        metadata=describe("Only jobs of this sub-cluster; empty: without a sub-cluster"),
    )
    partition = QueryText(_NON_EMPTY, metadata=describe("Only jobs of this partition"))
    job_id = QueryInteger(
        data_key="job-id",
        metadata=describe("Only runs of the job with this number of the batch system"),
    )
    array_job_id = QueryInteger(
        data_key="array-job-id", metadata=describe("Only jobs of the array with this number")
    )
    host = Text(rules.HOSTNAME, metadata=describe("Only jobs on this host"))
    tag = QueryTag(rules.TEXT, metadata=describe("Only jobs with this tag, TYPE:NAME"))
    cursor = ListCursor(
        metadata=describe(
            "The nextCursor of the page before; empty to begin. Cannot be combined with page"
        )
    )
    fields_ = QueryNames(
        [field.name for field in JOB_META_FIELDS],
        data_key="fields",
        metadata=describe("Show only these fields of each job, separated by commas"),
    )
    format = QueryChoice(
        FORMATS,
        metadata=describe(
            "json (default), or csv with a line of names; nextCursor and total are then the "
            "headers X-Next-Cursor and X-Total",
            enum=[*FORMATS],
        ),
    )
    total = QueryBoolean(metadata=describe("Count all jobs that match, on whatever page"))
