"""The operation that counts jobs, for dashboards."""

from typing import Any

from flask import Response
from marshmallow import fields

from ccapi.api.fields import QueryRange
from ccapi.api.job_list import parse_filter
from ccapi.api.queries import FORMATS, JSON_OR_CSV, ListQuery
from ccapi.api.schemas import QUERY
from ccapi.context import Context
from ccapi.errors import InvalidInput
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
from ccapi.model.job import Range
from ccapi.model.rules import MAX_INTEGER
from ccapi.model.statistics import GroupBy, StatisticsQuery
from ccapi.model.token import Role
from ccapi.service import statistics

blueprint = Blueprint("statistics", __name__, url_prefix="/api/jobs")

_DAY_SECONDS = 86_400
_DEFAULT_LIMIT = 100
_MAX_GROUPS = 10_000
_SORTS = ("node-hours", "num-jobs")


class StatsQuery(ListQuery):
    """Which jobs are counted, when, by what, and how much of it is shown."""

    class Meta(ContractSchema.Meta):
        exclude = ("items_per_page", "page", "with_metadata", "cursor", "fields_", "total")

    range = QueryRange(
        "epoch seconds",
        metadata=parameter(
            f"The time range: FROM-TO, epoch seconds, at most {statistics.MAX_RANGE_DAYS} days; "
            "FROM- ends now. By default it is start-time, else stop-time, else the last 24 hours",
            "1649723812-1649810212",
        ),
    )
    group_by = QueryChoices(
        GroupBy,
        data_key="group-by",
        metadata=parameter(
            "Field by which to group jobs, cluster by default; may be repeated",
            "user",
            enum=list(GroupBy),
        ),
    )
    sort = QueryChoice(  # type: ignore[assignment] # groups have other orders than jobs
        _SORTS,
        metadata=parameter(
            "Order of the groups, largest first; node-hours by default", "num-jobs", enum=[*_SORTS]
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
    format = QueryChoice(
        FORMATS,
        metadata=parameter(
            "json (default), or csv: the groups with a line of names, without a timeline",
            "csv",
            enum=[*FORMATS],
        ),
    )


class StatsGroup(ContractSchema):
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
    num_jobs = fields.Integer(data_key="numJobs", metadata=describe("Number of jobs"))
    node_hours = fields.Float(data_key="nodeHours", metadata=describe("Their node-hours"))


class StatsPoint(ContractSchema):
    """A point of the timeline."""

    definition = "api.StatsPoint"
    time = fields.Integer(metadata=describe("Epoch seconds"))
    num_jobs = fields.Integer(data_key="numJobs", metadata=describe("Jobs that ran"))
    num_nodes = fields.Integer(
        data_key="numNodes",
        metadata=describe("Nodes of these jobs; a shared node counts for each of its jobs"),
    )


class GetStatsApiResponse(ContractSchema):
    """Jobs counted over a time range."""

    definition = "api.GetStatsApiResponse"
    begin = fields.Integer(data_key="from", metadata=describe("Start of the range, epoch seconds"))
    end = fields.Integer(data_key="to", metadata=describe("End of the range, epoch seconds"))
    num_jobs = fields.Integer(data_key="numJobs", metadata=describe("Number of all jobs"))
    node_hours = fields.Float(data_key="nodeHours", metadata=describe("Node-hours of all jobs"))
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


@blueprint.route("/stats/", Role.READER, methods=["GET"], tags=QUERY, cached=True)
@blueprint.arguments(StatsQuery(), location="query")
@blueprint.response(
    200, GetStatsApiResponse(), description="The jobs, counted", produces=JSON_OR_CSV
)
def get_stats(context: Context, query: dict[str, Any]) -> dict[str, Any] | Response:
    """Count the jobs that ran within a time range, and their node-hours.

    A job runs from its start to its stop, or to now. It is counted when any moment of that lies
    within the range, both ends included. Its node-hours are numNodes times its hours within the
    range, whether or not it shares the nodes, so those of adjacent ranges add up; they are
    rounded to three digits. The filters are those of the list. Groups with
    the same value are ordered by name. A job runs at a point of the timeline if it has started by
    then, and stops later or not at all.
    """
    return answer(context, query)


def answer(context: Context, query: dict[str, Any]) -> dict[str, Any] | Response:
    """Return the response to a query that StatsQuery has checked."""
    statistics_query = parse_query(context, query)
    result = statistics.compute(context, statistics_query)
    groups = [
        {**group.key, "numJobs": group.num_jobs, "nodeHours": _hours(group.node_seconds)}
        for group in result.groups
    ]
    if query.get("format") == "csv":
        keys = [by for by in GroupBy if by in statistics_query.group_by]
        names = [*keys, "numJobs", "nodeHours"]
        body = csv_format.header(names) + csv_format.lines(names, groups)
        return Response(body, content_type=csv_format.CONTENT_TYPE)
    content: dict[str, Any] = {
        "from": statistics_query.time.lower,
        "to": statistics_query.time.upper,
        "numJobs": result.num_jobs,
        "nodeHours": _hours(result.node_seconds),
        "numGroups": result.num_groups,
        "groups": groups,
    }
    if result.step is not None:
        content["step"] = result.step
        content["timeline"] = [
            {"time": point.time, "numJobs": point.num_jobs, "numNodes": point.num_nodes}
            for point in result.timeline
        ]
    return content


def parse_query(context: Context, query: dict[str, Any]) -> StatisticsQuery:
    """Read a query that StatsQuery has checked; raises InvalidInput."""
    limit = query.get("limit", _DEFAULT_LIMIT)
    if limit > _MAX_GROUPS:
        raise InvalidInput.of("limit", f"must be at most {_MAX_GROUPS}")
    with_timeline = query.get("timeline", "step" in query)
    if with_timeline and query.get("format") == "csv":
        raise InvalidInput.of("timeline", "cannot be combined with format=csv")
    jobs = parse_filter(query, context.scope)
    last_day = Range(jobs.now - _DAY_SECONDS, jobs.now)
    time = query.get("range") or jobs.start_time or jobs.stop_time or last_day
    if time.upper == MAX_INTEGER:  # an open end
        time = Range(time.lower, max(time.lower, jobs.now))
    return StatisticsQuery(
        jobs=jobs,
        time=time,
        group_by=frozenset(query.get("group_by", [GroupBy.CLUSTER])),
        sort_by_num_jobs=query.get("sort") == "num-jobs",
        limit=limit,
        with_timeline=with_timeline,
        step=query.get("step"),
    )


def _hours(seconds: float) -> float:
    return round(seconds / 3600, 3)
