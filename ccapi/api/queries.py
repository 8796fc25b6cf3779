"""The query strings of operations on jobs."""

from ccapi.api.fields import (
    ListCursor,
    PlainNames,
    QueryJobNames,
    QueryRange,
    QuerySort,
    QueryTags,
    QueryTotal,
)
from ccapi.http.schema import (
    QueryBoolean,
    QueryChoice,
    QueryChoices,
    QueryInteger,
    QueryIntegers,
    QueryNames,
    QuerySchema,
    QueryTexts,
    describe,
    parameter,
)
from ccapi.model import rules
from ccapi.model.job import JOB_META_FIELDS, JobState, SortBy

FORMATS = ("json", "csv")
JSON_OR_CSV = ("application/json", "text/csv")
_NON_EMPTY = rules.TextRule(min_length=1)
_JOB_NAME = rules.TextRule(min_length=1, max_length=rules.MAX_NAME_LENGTH)
# The contract's document lists only the first six states as choices of a filter.
_LISTED_STATES, _OTHER_STATES = [*JobState][:6], [*JobState][6:]


class ListQuery(QuerySchema):
    """Which jobs a list shows, and how much of each."""

    state = QueryChoices(
        JobState,
        metadata=parameter(
            "Only jobs in this state. May be repeated, as all filters but ranges; may also be "
            f"{' or '.join(_OTHER_STATES)}",
            "running",
            enum=_LISTED_STATES,
        ),
    )
    cluster = PlainNames(rules.CLUSTER, metadata=parameter("Only jobs of this cluster", "fritz"))
    start_time = QueryRange(
        "epoch seconds",
        data_key="start-time",
        metadata=parameter(
            "Only jobs that started within FROM-TO, epoch seconds, both inclusive. As in all "
            "ranges, FROM- and -TO are open on one side",
            "1649723812-1649810212",
        ),
    )
    items_per_page = QueryInteger(
        data_key="items-per-page", metadata=parameter("Jobs on a page, 25 by default", 100)
    )
    page = QueryInteger(metadata=parameter("Number of the page, 1 by default", 2))
    with_metadata = QueryBoolean(
        data_key="with-metadata",
        metadata=parameter("Show metaData (job scripts are large)", "true"),
    )
    stop_time = QueryRange(
        "epoch seconds",
        data_key="stop-time",
        metadata=parameter(
            "Only jobs that stopped within FROM-TO, epoch seconds, both inclusive",
            "1649723812-1649767012",
        ),
    )
    duration = QueryRange(
        "seconds",
        metadata=parameter(
            "Only jobs that ran for FROM-TO seconds, both inclusive; running jobs run until now",
            "3600-",
        ),
    )
    num_nodes = QueryRange(
        "nodes",
        data_key="num-nodes",
        metadata=parameter("Only jobs on FROM-TO nodes, both inclusive", "2-16"),
    )
    user_name = QueryTexts(
        _NON_EMPTY, data_key="user", metadata=parameter("Only jobs of this user", "abcd100h")
    )
    project = QueryTexts(
        rules.TEXT,
        metadata=parameter("Only jobs of this project; empty: without a project", "abcd200"),
    )
    sub_cluster = QueryTexts(
        rules.TEXT,
        data_key="sub-cluster",
        metadata=parameter("Only jobs of this sub-cluster; empty: without a sub-cluster", "main"),
    )
    partition = QueryTexts(
        _NON_EMPTY, metadata=parameter("Only jobs of this partition", "multinode")
    )
    job_id = QueryIntegers(
        data_key="job-id",
        metadata=parameter("Only runs of the job with this number of the batch system", 123000),
    )
    array_job_id = QueryIntegers(
        data_key="array-job-id",
        metadata=parameter("Only jobs of the array with this number", 123000),
    )
    host = PlainNames(rules.HOSTNAME, metadata=parameter("Only jobs on this host", "f0101"))
    tag = QueryTags(
        rules.TEXT, metadata=parameter("Only jobs with this tag, TYPE:NAME", "Debug:Testjob")
    )
    cursor = ListCursor(
        metadata=parameter(
            "The nextCursor of the page before; empty to begin. Cannot be combined with page",
            "AAAAAGlwd6MAAAAAAAAAAQAAAAAAAAAC",
        )
    )
    fields_ = QueryNames(
        [field.name for field in JOB_META_FIELDS],
        data_key="fields",
        metadata=parameter(
            "Show only these fields of each job, separated by commas", "jobId,user,numNodes"
        ),
    )
    format = QueryChoice(
        FORMATS,
        metadata=parameter(
            "json (default), or csv with a line of names; nextCursor and total are then the "
            "headers X-Next-Cursor and X-Total",
            "csv",
            enum=[*FORMATS],
        ),
    )
    total = QueryTotal(
        metadata=parameter(
            "Count all jobs that match, not only this page: true, or estimate for what "
            "PostgreSQL's planner expects, at once",
            "true",
        )
    )
    not_state = QueryChoices(
        JobState,
        data_key="not-state",
        metadata=parameter("No jobs in this state", "completed", enum=[*JobState]),
    )
    not_user_name = QueryTexts(
        _NON_EMPTY, data_key="not-user", metadata=parameter("No jobs of this user", "abcd100h")
    )
    not_partition = QueryTexts(
        _NON_EMPTY,
        data_key="not-partition",
        metadata=parameter("No jobs of this partition", "devel"),
    )
    not_tag = QueryTags(
        rules.TEXT,
        data_key="not-tag",
        metadata=parameter("No jobs with this tag, TYPE:NAME", "Debug:Testjob"),
    )
    name = QueryJobNames(
        _JOB_NAME,
        metadata=parameter(
            "Only jobs whose metaData.jobName begins with this text, or contains it if it is "
            "written *part*; *part* needs a start-time or stop-time with a FROM",
            "rotor",
        ),
    )
    submit_time = QueryRange(
        "epoch seconds",
        data_key="submit-time",
        metadata=parameter("Only jobs that were submitted within FROM-TO", "1649720000-"),
    )
    wait = QueryRange(
        "seconds",
        metadata=parameter("Only jobs that waited for FROM-TO seconds in the queue", "86400-"),
    )
    walltime_used = QueryRange(
        "percent",
        data_key="walltime-used",
        metadata=parameter("Only jobs that used FROM-TO percent of their walltime", "95-"),
    )
    num_acc = QueryRange(
        "accelerators",
        data_key="num-acc",
        metadata=parameter("Only jobs with FROM-TO accelerators; none reported counts as 0", "1-"),
    )
    num_hwthreads = QueryRange(
        "hardware threads",
        data_key="num-hwthreads",
        metadata=parameter(
            "Only jobs with FROM-TO hardware threads; none reported counts as 0", "-36"
        ),
    )
    sort = QuerySort(
        metadata=parameter(
            f"Order of the list: {' or '.join(SortBy)}; after a minus the largest value first. "
            "By default -start-time. A cursor goes on in the order that it comes from",
            "-duration",
        )
    )


class DeleteBeforeQuery(QuerySchema):
    """Which old jobs to keep."""

    omit_tagged = QueryBoolean(data_key="omit-tagged", metadata=describe("Keep jobs with a tag"))
