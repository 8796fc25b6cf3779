"""The query strings of operations on jobs."""

from ccapi.api.fields import ListCursor, QueryRange, QueryTag
from ccapi.http.schema import (
    QueryBoolean,
    QueryChoice,
    QueryChoices,
    QueryInteger,
    QueryNames,
    QuerySchema,
    QueryText,
    Text,
    describe,
)
from ccapi.model import rules
from ccapi.model.job import JOB_META_FIELDS, JobState

FORMATS = ("json", "csv")
JSON_OR_CSV = ("application/json", "text/csv")
_NON_EMPTY = rules.TextRule(min_length=1)
# The contract's document lists only the first six states as choices of a filter.
_LISTED_STATES, _OTHER_STATES = [*JobState][:6], [*JobState][6:]


class ListQuery(QuerySchema):
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
    total = QueryBoolean(metadata=describe("Count all jobs that match, not only this page"))


class DeleteBeforeQuery(QuerySchema):
    """Which old jobs to keep."""

    omit_tagged = QueryBoolean(data_key="omit-tagged", metadata=describe("Keep jobs with a tag"))
