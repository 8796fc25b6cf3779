"""The operation that counts jobs, for dashboards."""

from typing import Any

from flask import Response
from marshmallow import fields

from ccapi.api.fields import QueryRange, resolve_range
from ccapi.api.job_list import parse_filter
from ccapi.api.queries import FORMATS, JSON_OR_CSV, ListQuery
from ccapi.api.schemas import QUERY
from ccapi.context import Context
from ccapi.errors import Forbidden, InvalidInput
from ccapi.http import csv_format
from ccapi.http.blueprint import Blueprint
from ccapi.http.schema import (
    ContractSchema,
    QueryBoolean,
    QueryChoice,
    QueryChoices,
    QueryInteger,
    describe,
    parameter,
)
from ccapi.model.job import FAILURES
from ccapi.model.statistics import GroupBy, GroupOrder, HistogramOf, StatisticsQuery, Sums
from ccapi.model.token import Role
from ccapi.service import statistics

blueprint = Blueprint("statistics", __name__, url_prefix="/api/jobs")

_DEFAULT_LIMIT = 100
_MAX_GROUPS = 10_000
# The keys of the answer.
_KEYS = {GroupBy.SUB_CLUSTER.value: "subCluster"}
_SUMS = ("numJobs", "nodeHours", "coreHours", "gpuHours")
_WAITS, _STATES = ("median", "p90", "p99"), ("states", "failureRate")
_POINT = ("time", "numJobs", "numNodes", "numCores", "numGpus")
_DISTINCT = ("distinctNodes", "distinctCores", "distinctGpus")
_BIN = ("from", "to", "numJobs")


class StatsQuery(ListQuery):
    """Which jobs are counted, when, by what, and how much of it is shown."""

    class Meta(ContractSchema.Meta):
        exclude = ("items_per_page", "page", "with_metadata", "cursor", "fields_", "total")

    range = QueryRange(
        "epoch seconds",
        metadata=parameter(
            f"The time range: FROM-TO, epoch seconds, at most {statistics.MAX_RANGE_DAYS} days, "
            "besides days that ccapi rollup has summed up; FROM- ends now. By default it is "
            "start-time, else stop-time, else the last 24 hours",
            "1649723812-1649810212",
        ),
    )
    group_by = QueryChoices(
        GroupBy,
        data_key="group-by",
        metadata=parameter(
            "What to group jobs by, cluster by default; may be repeated. A job is in the group of "
            "each of its hosts, and of each day, week or month (UTC) in which it ran",
            "user",
            enum=list(GroupBy),
        ),
    )
    sort = QueryChoice(  # type: ignore[assignment] # groups have other orders than jobs
        GroupOrder,
        metadata=parameter(
            "Order of the groups, largest first, or group for that of their names; node-hours by "
            "default",
            "num-jobs",
            enum=[*GroupOrder],
        ),
    )
    limit = QueryInteger(
        metadata=parameter(
            f"Number of groups to show, at most {_MAX_GROUPS}; {_DEFAULT_LIMIT} by default", 10
        )
    )
    timeline = QueryBoolean(
        metadata=parameter(
            "Show how many jobs ran at points of the range, none of them after now", "true"
        )
    )
    step = QueryInteger(
        metadata=parameter(
            "Seconds between two points of the timeline, which are multiples of it, at most "
            f"{statistics.MAX_POINTS}. By default the service chooses it; with it, the timeline "
            "is shown",
            3600,
        )
    )
    waits = QueryBoolean(
        metadata=parameter("Show how long the jobs of each group waited in the queue", "true")
    )
    end_states = QueryBoolean(
        data_key="end-states",
        metadata=parameter("Show the states of each group's jobs, and its failure rate", "true"),
    )
    distinct = QueryBoolean(
        metadata=parameter(
            "Show nodes, cores and GPUs that count once, however many jobs share them, in total "
            "and in the timeline. It reads the resources of all jobs",
            "true",
        )
    )
    histogram = QueryChoices(
        HistogramOf,
        metadata=parameter(
            "Value of which to show a histogram; may be repeated",
            "duration",
            enum=[*HistogramOf],
        ),
    )
    format = QueryChoice(
        FORMATS,
        metadata=parameter(
            "json (default), or csv: the groups with a line of names, without a timeline",
            "csv",
            enum=[*FORMATS],
        ),
    )


class Waits(ContractSchema):
    """How long jobs waited in the queue."""

    definition = "api.StatsWaits"
    median = fields.Integer(metadata=describe("Half of the jobs waited at most so many seconds"))
    p90 = fields.Integer(metadata=describe("The same of 90 percent"))
    p99 = fields.Integer(metadata=describe("The same of 99 percent"))


class StatsSums(ContractSchema):
    """What jobs used, and how they ended."""

    num_jobs = fields.Integer(data_key="numJobs", metadata=describe("Number of jobs"))
    node_hours = fields.Float(data_key="nodeHours", metadata=describe("Their node-hours"))
    core_hours = fields.Float(
        data_key="coreHours", metadata=describe("Their hours times hardware threads")
    )
    gpu_hours = fields.Float(
        data_key="gpuHours", metadata=describe("Their hours times accelerators")
    )
    waits = fields.Nested(
        Waits(), metadata=describe("Their time in the queue, if requested and known")
    )
    states = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        metadata=describe("Their number by state, if requested"),
    )
    failure_rate = fields.Float(
        data_key="failureRate",
        metadata=describe(
            f"Share of {', '.join(sorted(FAILURES))} among the finished ones, if requested"
        ),
    )


class StatsGroup(StatsSums):
    """Jobs that have in common what group-by asks for."""

    definition = "api.StatsGroup"
    cluster = fields.String(metadata=describe("Their cluster, if grouped by it"))
    state = fields.String(metadata=describe("Their state, if grouped by it"))
    user = fields.String(metadata=describe("Their user, if grouped by it"))
    project = fields.String(
        metadata=describe("Their project, if grouped by it; empty: without a project")
    )
    partition = fields.String(
        metadata=describe("Their partition, if grouped by it; empty: not reported")
    )
    sub_cluster = fields.String(
        data_key="subCluster",
        metadata=describe("Their sub-cluster, if grouped by it; empty: unknown"),
    )
    array = fields.String(
        metadata=describe("Their array's number, if grouped by it; empty: not of an array")
    )
    name = fields.String(metadata=describe("Their name, if grouped by it; empty: not reported"))
    host = fields.String(metadata=describe("One of their hosts, if grouped by it"))
    day = fields.String(metadata=describe("Day on which they ran, such as 2026-01-21"))
    week = fields.String(metadata=describe("Week in which they ran, such as 2026-W04 (ISO 8601)"))
    month = fields.String(metadata=describe("Month in which they ran, such as 2026-01"))


class StatsPoint(ContractSchema):
    """A point of the timeline."""

    definition = "api.StatsPoint"
    time = fields.Integer(metadata=describe("Epoch seconds"))
    num_jobs = fields.Integer(data_key="numJobs", metadata=describe("Jobs that ran"))
    num_nodes = fields.Integer(
        data_key="numNodes",
        metadata=describe("Nodes of these jobs; a shared node counts for each of its jobs"),
    )
    num_cores = fields.Integer(
        data_key="numCores", metadata=describe("Hardware threads of these jobs")
    )
    num_gpus = fields.Integer(data_key="numGpus", metadata=describe("Accelerators of these jobs"))
    distinct_nodes = fields.Integer(
        data_key="distinctNodes", metadata=describe("Nodes in use, each once, if requested")
    )
    distinct_cores = fields.Integer(
        data_key="distinctCores", metadata=describe("The same of hardware threads")
    )
    distinct_gpus = fields.Integer(
        data_key="distinctGpus", metadata=describe("The same of accelerators")
    )


class StatsDistinct(ContractSchema):
    """Nodes, cores and GPUs, where one that several jobs share counts once."""

    definition = "api.StatsDistinct"
    nodes = fields.Integer(metadata=describe("Nodes in use at any time"))
    cores = fields.Integer(metadata=describe("Hardware threads, as far as resources list them"))
    gpus = fields.Integer(metadata=describe("Accelerators, as far as resources list them"))
    node_hours = fields.Float(data_key="nodeHours", metadata=describe("Hours of use of nodes"))
    core_hours = fields.Float(data_key="coreHours", metadata=describe("The same of threads"))
    gpu_hours = fields.Float(data_key="gpuHours", metadata=describe("The same of accelerators"))


class StatsBin(ContractSchema):
    """A bin of a histogram."""

    definition = "api.StatsBin"
    lower = fields.Integer(data_key="from", metadata=describe("The smallest value in it"))
    upper = fields.Integer(data_key="to", metadata=describe("The end, which is not in it"))
    num_jobs = fields.Integer(data_key="numJobs", metadata=describe("Number of jobs"))


class GetStatsApiResponse(StatsSums):
    """Jobs counted over a time range."""

    definition = "api.GetStatsApiResponse"
    begin = fields.Integer(data_key="from", metadata=describe("Start of the range, epoch seconds"))
    end = fields.Integer(data_key="to", metadata=describe("End of the range, epoch seconds"))
    num_groups = fields.Integer(
        data_key="numGroups", metadata=describe("Number of groups, beyond the limit too")
    )
    groups = fields.List(
        fields.Nested(StatsGroup()), metadata=describe("The groups, in the order of sort")
    )
    step = fields.Integer(
        metadata=describe("Seconds between two points of the timeline, if there is one")
    )
    timeline = fields.List(
        fields.Nested(StatsPoint()), metadata=describe("What ran when, if requested")
    )
    distinct = fields.Nested(StatsDistinct(), metadata=describe("What was in use, if requested"))
    histograms = fields.Dict(
        keys=fields.String(),
        values=fields.List(fields.Nested(StatsBin())),
        metadata=describe("The bins of each value, if requested"),
    )


@blueprint.route("/stats/", Role.READER, methods=["GET"], tags=QUERY, cached=True)
@blueprint.arguments(StatsQuery(), location="query")
@blueprint.response(
    200, GetStatsApiResponse(), description="The jobs, counted", produces=JSON_OR_CSV
)
def get_stats(context: Context, query: dict[str, Any]) -> dict[str, Any] | Response:
    """Count the jobs that ran within a time range, and what they used.

    A job runs from its start to its stop, or to now. It is counted when any moment of that lies
    within the range, both ends included. Its node-hours are numNodes times its hours within the
    range, whether or not it shares the nodes, so those of adjacent ranges add up. Its core-hours
    and GPU-hours are the same of numHwthreads and numAcc; a job without these has what its
    resources list. Hours are rounded to three digits. The filters are those of the list. Groups
    with the same value are ordered by name. Totals count each job once, however many groups it is
    in. A job runs at a point of the timeline if it has started by then, and stops later or not at
    all. A histogram has a bin for each power of two.
    """
    return answer(context, query)


def answer(context: Context, query: dict[str, Any]) -> dict[str, Any] | Response:
    """Return the response to a query that StatsQuery has checked."""
    statistics_query = parse_query(context, query)
    result = statistics.compute(context, statistics_query)
    groups = [
        {**{_KEYS.get(by, by): name for by, name in group.key.items()}, **_sums(group.sums)}
        for group in result.groups
    ]
    if query.get("format") == "csv":
        keys = [_KEYS.get(by, by) for by in GroupBy if by in statistics_query.group_by]
        columns = [*_SUMS, *_WAITS * query.get("waits", False)]
        columns += _STATES * query.get("end_states", False)
        rows = [{**group, **group.pop("waits", {})} for group in groups]
        body = csv_format.header([*keys, *columns]) + csv_format.lines([*keys, *columns], rows)
        return Response(body, content_type=csv_format.CONTENT_TYPE)
    content: dict[str, Any] = {
        "from": statistics_query.time.lower,
        "to": statistics_query.time.upper,
        **_sums(result.total),
        "numGroups": result.num_groups,
        "groups": groups,
    }
    if result.step is not None:
        content["step"] = result.step
        content["timeline"] = [dict(zip(_POINT, point, strict=True)) for point in result.timeline]
    if result.distinct is not None and result.distinct_seconds is not None:
        hours = map(_hours, result.distinct_seconds)
        content["distinct"] = result.distinct._asdict() | dict(zip(_SUMS[1:], hours, strict=True))
        timeline = content.get("timeline", ())
        for point, numbers in zip(timeline, result.distinct_timeline, strict=True):
            point |= dict(zip(_DISTINCT, numbers, strict=True))
    if result.histograms:
        content["histograms"] = {
            of.value: [dict(zip(_BIN, each, strict=True)) for each in bins]
            for of, bins in result.histograms.items()
        }
    return content


def _sums(sums: Sums) -> dict[str, Any]:
    hours = (sums.node_seconds, sums.core_seconds, sums.gpu_seconds)
    content: dict[str, Any] = dict(zip(_SUMS, (sums.num_jobs, *map(_hours, hours)), strict=True))
    if sums.waits is not None:
        content["waits"] = sums.waits._asdict()
    if sums.states is not None:
        content["states"] = {state.value: number for state, number in sums.states.items()}
    if sums.failure_rate is not None:
        content["failureRate"] = round(sums.failure_rate, 4)
    return content


def parse_query(context: Context, query: dict[str, Any]) -> StatisticsQuery:
    """Read a query that StatsQuery has checked; raises InvalidInput."""
    limit = query.get("limit", _DEFAULT_LIMIT)
    if limit > _MAX_GROUPS:
        raise InvalidInput.of("limit", f"must be at most {_MAX_GROUPS}")
    with_timeline = query.get("timeline", "step" in query)
    parts = {**query, "timeline": with_timeline}
    for name in ("timeline", "histogram", "distinct"):
        if parts.get(name) and query.get("format") == "csv":
            raise InvalidInput.of(name, "cannot be combined with format=csv")
    if GroupBy.NAME in query.get("group_by", ()) and not context.scope.sees_metadata:
        raise Forbidden("group-by: this token does not see metadata, which has the names of jobs")
    jobs = parse_filter(query, context.scope)
    time = query.get("range") or jobs.start_time or jobs.stop_time
    return StatisticsQuery(
        jobs=jobs,
        time=resolve_range(time, jobs.now),
        group_by=frozenset(map(GroupBy, query.get("group_by", [GroupBy.CLUSTER]))),
        order=GroupOrder(query.get("sort", GroupOrder.NODE_HOURS)),
        limit=limit,
        with_timeline=with_timeline,
        step=query.get("step"),
        with_waits=query.get("waits", False),
        with_end_states=query.get("end_states", False),
        with_distinct=query.get("distinct", False),
        histograms=tuple(dict.fromkeys(map(HistogramOf, query.get("histogram", ())))),
    )


def _hours(seconds: float) -> float:
    return round(seconds / 3600, 3)
