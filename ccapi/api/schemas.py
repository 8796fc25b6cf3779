"""The contract's definitions: what requests are checked against and the document shows."""

import re
from typing import Any

from marshmallow import fields, post_load

from ccapi.api.serializers import JOB_FIELDS
from ccapi.http.fields import (
    Count,
    Integer,
    IntegerList,
    Number,
    OptionalText,
    Pattern,
    QueryBoolean,
    QueryChoice,
    QueryCursor,
    QueryFields,
    QueryInteger,
    QueryRange,
    QueryTag,
    QueryText,
    QueryWords,
    State,
    Text,
    TextList,
    TextMap,
    final_state,
)
from ccapi.http.schema import ContractSchema, Objects
from ccapi.model.job import JobState, NewJob, Tag
from ccapi.model.rules import HOSTNAME_PATTERN, MAX_EPOCH_SECOND, MAX_NAME_LENGTH, NAME_PATTERN

_NAME_OR_NONE = re.compile(rf"(?:{NAME_PATTERN.pattern})?")
NAME_RULE = "must be 1 to 64 letters, digits, '.', '_' and '-', beginning with a letter or digit"
_HOSTNAME_RULE = "must be 1 to 255 letters, digits, '.', '_' and '-'"


def _doc(description: str, **facts: Any) -> dict[str, Any]:
    return {"description": description, **facts}


def _epoch(description: str, **kwargs: Any) -> Integer:
    metadata = _doc(description, example=1649723812, **kwargs.pop("metadata", {}))
    return Integer(least=1, most=MAX_EPOCH_SECOND, metadata=metadata, **kwargs)


def _job_id(description: str, **kwargs: Any) -> Integer:
    metadata = _doc(description, example=123000)
    return Integer(data_key="jobId", least=1, metadata=metadata, **kwargs)


def _cluster(description: str, **kwargs: Any) -> Pattern:
    return Pattern(NAME_PATTERN, NAME_RULE, metadata=_doc(description, example="fritz"), **kwargs)


class ErrorResponse(ContractSchema):
    """What every error looks like."""

    class Meta(ContractSchema.Meta):
        """Its place in the document."""

        name = "api.ErrorResponse"

    status = fields.String(metadata=_doc("Reason phrase of the HTTP status"))
    error = fields.String(metadata=_doc("What is wrong and what to do"))


class ApiTag(ContractSchema):
    """A tag to add."""

    class Meta(ContractSchema.Meta):
        """Its place in the document."""

        name = "api.ApiTag"

    needed = ("type", "name")
    type = Text(least=1, most=MAX_NAME_LENGTH, metadata=_doc("Kind of tag", example="Debug"))
    name = Text(least=1, most=MAX_NAME_LENGTH, metadata=_doc("Name of tag", example="Testjob"))

    @post_load
    def _to_model(self, data: dict[str, Any], **_: Any) -> Tag:
        return Tag(data["type"], data["name"])


class TagSchema(ApiTag):
    """A tag as a job carries it; a sent id is ignored."""

    class Meta(ContractSchema.Meta):
        """Its place in the document."""

        name = "schema.Tag"
        description = "A label, made of a type and a name."

    id = Integer(metadata=_doc("Database id of the tag"))


class Resource(ContractSchema):
    """A node, or a part of one, that a job uses."""

    class Meta(ContractSchema.Meta):
        """Its place in the document."""

        name = "schema.Resource"
        description = "A node, or a part of one, that a job uses."

    needed = ("hostname",)
    hostname = Pattern(HOSTNAME_PATTERN, _HOSTNAME_RULE, metadata=_doc("Name of the node"))
    hwthreads = IntegerList(metadata=_doc("Hardware threads, as the system numbers them"))
    accelerators = TextList(metadata=_doc("Device ids of the accelerators"))
    configuration = Text(metadata=_doc("How the node was set up for the job"))


class JobStatistics(ContractSchema):
    """A metric over the whole job."""

    class Meta(ContractSchema.Meta):
        """Its place in the document."""

        name = "schema.JobStatistics"
        description = "One metric over all nodes and the whole run of a job."

    unit = Text(metadata=_doc("Unit of the metric, prefix included", example="GHz"))
    avg = Number(metadata=_doc("Mean of the metric", example=2500, minimum=0))
    min = Number(metadata=_doc("Smallest value of the metric", example=2000, minimum=0))
    max = Number(metadata=_doc("Largest value of the metric", example=3000, minimum=0))

    @post_load
    def _default_unit(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {"unit": "", **data}


class _JobFields(ContractSchema):
    """What both views of a job share."""

    id = Integer(metadata=_doc("Database id of the job"))
    job_id = _job_id("The batch system's number of the job")
    user_name = Text(
        data_key="user",
        least=1,
        most=MAX_NAME_LENGTH,
        metadata=_doc("Account name of the job's owner", example="abcd100h"),
    )
    project = Text(most=MAX_NAME_LENGTH, metadata=_doc("Project charged", example="abcd200"))
    cluster = _cluster("Cluster that runs the job")
    sub_cluster = Pattern(
        _NAME_OR_NONE,
        NAME_RULE,
        data_key="subCluster",
        metadata=_doc("Part of the cluster with the same kind of nodes", example="main"),
    )
    partition = OptionalText(
        most=MAX_NAME_LENGTH, metadata=_doc("Partition the job was submitted to", example="main")
    )
    array_job_id = Count(
        data_key="arrayJobId", metadata=_doc("Job id of the array's first job", example=123000)
    )
    num_nodes = Count(data_key="numNodes", metadata=_doc("Number of nodes", example=2, minimum=1))
    num_hwthreads = Count(
        data_key="numHwthreads",
        metadata=_doc("Number of hardware threads", example=20, minimum=1),
    )
    num_acc = Count(
        data_key="numAcc", metadata=_doc("Number of accelerators", example=2, minimum=1)
    )
    exclusive = Integer(
        most=2,
        metadata=_doc(
            "Who else may use the nodes: 0 jobs of anybody, 1 nobody (default), "
            "2 jobs of the same user",
            example=1,
            minimum=0,
            maximum=2,
        ),
    )
    monitoring_status = Integer(
        data_key="monitoringStatus",
        most=3,
        metadata=_doc(
            "How monitoring stands: 0 disabled, 1 running or archiving (default), "
            "2 archiving failed, 3 archived",
            example=1,
            minimum=0,
            maximum=3,
        ),
    )
    smt = Count(metadata=_doc("Hardware threads used per core", example=4))
    walltime = Count(metadata=_doc("Time limit in seconds", example=86400, minimum=1))
    job_state = State(
        JobState.RUNNING,
        data_key="jobState",
        metadata=_doc("Where the job is in its life", example="completed"),
    )
    duration = Integer(metadata=_doc("Run time in seconds", example=43200, minimum=1))
    resources = Objects(Resource(), metadata=_doc("Nodes used, and what of them"))
    meta_data = TextMap(data_key="metaData", metadata=_doc("Whatever else is known of the job"))
    tags = Objects(TagSchema(), metadata=_doc("Labels of the job"))


class JobMeta(_JobFields):
    """A job as it is reported, listed and archived."""

    class Meta(ContractSchema.Meta):
        """Its place in the document."""

        name = "schema.JobMeta"
        description = "A job of the batch system."

    needed = ("jobId", "user", "cluster", "startTime", "resources")
    start_time = _epoch("Start, in epoch seconds", data_key="startTime", metadata={"minimum": 1})
    statistics = fields.Dict(
        keys=Text(),
        values=fields.Nested(JobStatistics(), error_messages={"null": "must be an object"}),
        metadata=_doc("Metrics of the whole job, by name"),
    )

    @post_load
    def _to_model(self, data: dict[str, Any], **_: Any) -> NewJob:
        for ignored in ("id", "duration", "job_state"):
            data.pop(ignored, None)
        return NewJob(**data)


class Job(_JobFields):
    """A job as tagging answers it."""

    class Meta(ContractSchema.Meta):
        """Its place in the document."""

        name = "schema.Job"
        description = "A job of the batch system, its start as a time stamp."

    start_time = fields.String(
        data_key="startTime", metadata=_doc("Start, as an RFC 3339 time stamp in UTC")
    )


class StartJobApiResponse(ContractSchema):
    """The answer to a start."""

    class Meta(ContractSchema.Meta):
        """Its place in the document."""

        name = "api.StartJobApiResponse"

    id = Integer(metadata=_doc("Database id of the new job"))


class StopJobApiRequest(ContractSchema):
    """Which job ended, when and how."""

    class Meta(ContractSchema.Meta):
        """Its place in the document."""

        name = "api.StopJobApiRequest"

    job_id = _job_id("The batch system's number of the job")
    cluster = _cluster("Cluster of the job")
    start_time = _epoch("Start, in epoch seconds", data_key="startTime")
    stop_time = Integer(
        data_key="stopTime",
        least=1,
        most=MAX_EPOCH_SECOND,
        required=True,
        metadata=_doc("Stop, in epoch seconds", example=1649763839),
    )
    job_state = final_state(
        data_key="jobState",
        required=True,
        metadata=_doc("How the job ended", example="completed"),
    )


class DeleteJobApiRequest(ContractSchema):
    """Which job to delete."""

    class Meta(ContractSchema.Meta):
        """Its place in the document."""

        name = "api.DeleteJobApiRequest"

    job_id = _job_id("The batch system's number of the job", required=True)
    cluster = _cluster("Cluster of the job")
    start_time = _epoch("Start, in epoch seconds", data_key="startTime")


class DeleteJobApiResponse(ContractSchema):
    """The answer to a deletion."""

    class Meta(ContractSchema.Meta):
        """Its place in the document."""

        name = "api.DeleteJobApiResponse"

    msg = fields.String()


class GetJobsApiResponse(ContractSchema):
    """A page of jobs."""

    class Meta(ContractSchema.Meta):
        """Its place in the document."""

        name = "api.GetJobsApiResponse"

    jobs = fields.List(fields.Nested(JobMeta()), metadata=_doc("The jobs of this page"))
    items = fields.Integer(metadata=_doc("Number of jobs in this answer"))
    page = fields.Integer(metadata=_doc("Number of this page"))
    next_cursor = fields.String(
        data_key="nextCursor",
        metadata=_doc("What to send as cursor for the jobs after these; empty at the end"),
    )
    total = fields.Integer(metadata=_doc("Number of all jobs that match, if asked for"))


class ListQuery(ContractSchema):
    """Which jobs a list shows, and how much of each."""

    state = QueryWords(
        JobState,
        metadata=_doc(
            "Only jobs in this state; may be repeated, and preempted and out_of_memory "
            "are taken, too",
            enum=["running", "completed", "failed", "cancelled", "stopped", "timeout"],
        ),
    )
    cluster = Pattern(NAME_PATTERN, NAME_RULE, metadata=_doc("Only jobs of this cluster"))
    start_time = QueryRange(
        "epoch seconds",
        data_key="start-time",
        metadata=_doc("Only jobs that started within FROM-TO, epoch seconds, both inclusive"),
    )
    items_per_page = QueryInteger(
        data_key="items-per-page", metadata=_doc("Jobs on a page, 25 if not given")
    )
    page = QueryInteger(metadata=_doc("Number of the page, 1 if not given"))
    with_metadata = QueryBoolean(
        data_key="with-metadata", metadata=_doc("Show metaData (job scripts are large)")
    )
    stop_time = QueryRange(
        "epoch seconds",
        data_key="stop-time",
        metadata=_doc("Only jobs that stopped within FROM-TO, epoch seconds, both inclusive"),
    )
    duration = QueryRange(
        "seconds",
        metadata=_doc(
            "Only jobs that took FROM-TO seconds, both inclusive; those that run, until now"
        ),
    )
    num_nodes = QueryRange(
        "nodes",
        data_key="num-nodes",
        metadata=_doc("Only jobs on FROM-TO nodes, both inclusive"),
    )
    user_name = QueryText(least=1, data_key="user", metadata=_doc("Only jobs of this user"))
    project = QueryText(metadata=_doc("Only jobs of this project; empty: of none"))
    sub_cluster = QueryText(
        data_key="sub-cluster", metadata=_doc("Only jobs of this sub-cluster; empty: of none")
    )
    partition = QueryText(least=1, metadata=_doc("Only jobs of this partition"))
    job_id = QueryInteger(
        data_key="job-id",
        metadata=_doc("Only runs of the job with this number of the batch system"),
    )
    array_job_id = QueryInteger(
        data_key="array-job-id", metadata=_doc("Only jobs of the array with this number")
    )
    host = Pattern(HOSTNAME_PATTERN, _HOSTNAME_RULE, metadata=_doc("Only jobs on this host"))
    tag = QueryTag(metadata=_doc("Only jobs with this tag, TYPE:NAME"))
    cursor = QueryCursor(
        metadata=_doc(
            "Only jobs after those of the list whose nextCursor this is; empty to begin. "
            "Instead of page"
        )
    )
    fields_ = QueryFields(
        JOB_FIELDS,
        data_key="fields",
        metadata=_doc("Show these fields of each job only, with commas between their names"),
    )
    format = QueryChoice(
        *("json", "csv"),
        metadata=_doc(
            "json (default), or csv with a line of names; nextCursor and total are then the "
            "headers X-Next-Cursor and X-Total",
            enum=["json", "csv"],
        ),
    )
    total = QueryBoolean(metadata=_doc("Count all jobs that match, on whatever page"))
