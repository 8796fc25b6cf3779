"""The operation that counts jobs for dashboards."""

from typing import Any

from marshmallow import fields

from ccapi.api.job_list import wanted_jobs
from ccapi.api.schemas import ListQuery
from ccapi.errors import InvalidInput
from ccapi.http import csv_format as table
from ccapi.http.blueprint import Blueprint, Documented
from ccapi.http.cache import CachedResponse
from ccapi.http.current import context
from ccapi.http.fields import QueryBoolean, QueryChoice, QueryInteger, QueryRange, QueryWords
from ccapi.http.schema import ContractSchema
from ccapi.model.job import JobFilter, Range
from ccapi.model.statistics import Group, GroupBy, Statistics, StatisticsQuery
from ccapi.model.token import Role
from ccapi.service import statistics

blueprint = Blueprint("statistics", __name__, url_prefix="/api/jobs")

_DAY_SECONDS = 86_400
_USUAL_LIMIT = 100
_MOST_GROUPS = 10_000
_SORTS = ["node-hours", "num-jobs"]
_FORMATS = ["json", "csv"]


def _about(description: str, **facts: Any) -> dict[str, Any]:
    return {"description": description, **facts}


class StatsQuery(ListQuery):
    """Which jobs are counted, when, by what, and how much of it is shown."""

    class Meta(ContractSchema.Meta):
        """What a list shows, and this does not."""

        exclude = ("items_per_page", "page", "with_metadata", "cursor", "fields_", "total")

    range = QueryRange(
        "epoch seconds",
        metadata=_about(
            "The time that is looked at: FROM-TO, epoch seconds, at most "
            f"{statistics.MAX_RANGE_DAYS} days. If not given it is start-time, else stop-time, "
            "else the last 24 hours"
        ),
    )
    group_by = QueryWords(
        GroupBy,
        data_key="group-by",
        metadata=_about(
            "What jobs of a group have in common, cluster if not given; may be repeated",
            enum=list(GroupBy),
        ),
    )
    sort = QueryChoice(
        *_SORTS,
        metadata=_about(
            "What the first group has the most of, node-hours if not given", enum=_SORTS
        ),
    )
    limit = QueryInteger(
        metadata=_about(
            f"Groups that are shown, at most {_MOST_GROUPS}; {_USUAL_LIMIT} if not given"
        )
    )
    timeline = QueryBoolean(
        metadata=_about("Show how many jobs ran at points of the range, none of them after now")
    )
    step = QueryInteger(
        metadata=_about(
            "Seconds between two points of the time line, which are multiples of it, at most "
            f"{statistics.MAX_POINTS}. If not given it is chosen; if given there is a time line"
        )
    )
    format = QueryChoice(
        *_FORMATS,
        metadata=_about(
            "json (default), or csv: the groups with a line of names, without a time line",
            enum=_FORMATS,
        ),
    )


class StatsGroup(ContractSchema):
    """Jobs that have in common what group-by asks for."""

    class Meta(ContractSchema.Meta):
        """Its place in the document."""

        name = "api.StatsGroup"

    cluster = fields.String(metadata=_about("Their cluster, if they are grouped by it"))
    state = fields.String(metadata=_about("Their state, if they are grouped by it"))
    user = fields.String(metadata=_about("Their user, if they are grouped by it"))
    project = fields.String(
        metadata=_about("Their project, if they are grouped by it; empty: of none")
    )
    partition = fields.String(
        metadata=_about("Their partition, if they are grouped by it; empty: not reported")
    )
    num_jobs = fields.Integer(data_key="numJobs", metadata=_about("Number of jobs"))
    node_hours = fields.Float(data_key="nodeHours", metadata=_about("Their node-hours"))


class StatsPoint(ContractSchema):
    """What ran at a time."""

    class Meta(ContractSchema.Meta):
        """Its place in the document."""

        name = "api.StatsPoint"

    time = fields.Integer(metadata=_about("Epoch seconds"))
    num_jobs = fields.Integer(data_key="numJobs", metadata=_about("Jobs that ran"))
    num_nodes = fields.Integer(
        data_key="numNodes", metadata=_about("Nodes of these jobs; a shared one once for each")
    )


class GetStatsApiResponse(ContractSchema):
    """Jobs counted over a range of time."""

    class Meta(ContractSchema.Meta):
        """Its place in the document."""

        name = "api.GetStatsApiResponse"

    begin = fields.Integer(data_key="from", metadata=_about("Begin of the range, epoch seconds"))
    end = fields.Integer(data_key="to", metadata=_about("End of the range, epoch seconds"))
    num_jobs = fields.Integer(data_key="numJobs", metadata=_about("Number of jobs in all"))
    node_hours = fields.Float(data_key="nodeHours", metadata=_about("Node-hours in all"))
    num_groups = fields.Integer(
        data_key="numGroups", metadata=_about("Number of groups, shown or not")
    )
    groups = fields.List(
        fields.Nested(StatsGroup()), metadata=_about("The groups, those with the most first")
    )
    step = fields.Integer(
        metadata=_about("Seconds between two points of the time line, if there is one")
    )
    timeline = fields.List(
        fields.Nested(StatsPoint()), metadata=_about("What ran when, if it was asked for")
    )


@blueprint.operation(
    "/stats/",
    "GET",
    Role.READER,
    Documented(
        group="query",
        answer=(200, GetStatsApiResponse(), "The jobs, counted"),
        errors=(400, 401, 403, 500),
        also_produces=("text/csv",),
    ),
    query=StatsQuery(),
    is_shared=True,
)
def get_stats(query: dict[str, Any]) -> CachedResponse:
    """Count the jobs that ran within a range of time, and their node-hours.

    A job ran from its start to its stop, or to now while it runs; it is counted when any
    moment of that lies within the range, both ends included. Its node-hours are numNodes times
    the hours of it within the range, whether or not it shared the nodes, so those of adjacent
    ranges add up. They are rounded to three digits. The filters are those of the list. Groups
    with as much as another are in the order of their names. At a point of the time line a job
    runs that has started by then and stops later, or has not stopped.
    """
    question = _question(query)
    if query.get("format") == "csv":
        return _table(question, statistics.compute(context(), question))
    return CachedResponse.of(_shown(question.time, statistics.compute(context(), question)))


def _question(query: dict[str, Any]) -> StatisticsQuery:
    limit = query.get("limit", _USUAL_LIMIT)
    if limit > _MOST_GROUPS:
        raise InvalidInput.of("limit", f"must be at most {_MOST_GROUPS}")
    with_timeline = query.get("timeline", "step" in query)
    if with_timeline and query.get("format") == "csv":
        raise InvalidInput.of("timeline", "must not come with format=csv, which has the groups")
    jobs = wanted_jobs(query)
    return StatisticsQuery(
        jobs=jobs,
        time=_range(query, jobs),
        group_by=frozenset(query.get("group_by", [GroupBy.CLUSTER])),
        sort_by_num_jobs=query.get("sort") == "num-jobs",
        limit=limit,
        with_timeline=with_timeline,
        step=query.get("step"),
    )


def _range(query: dict[str, Any], jobs: JobFilter) -> Range:
    last_day = Range(jobs.now - _DAY_SECONDS, jobs.now)
    found: Range = query.get("range") or jobs.start_time or jobs.stop_time or last_day
    return found


def _shown(time: Range, found: Statistics) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "from": time.lower,
        "to": time.upper,
        "numJobs": found.num_jobs,
        "nodeHours": _hours(found.node_seconds),
        "numGroups": found.num_groups,
        "groups": [_group(group) for group in found.groups],
    }
    if found.step is not None:
        shown["step"] = found.step
        shown["timeline"] = [
            {"time": point.time, "numJobs": point.num_jobs, "numNodes": point.num_nodes}
            for point in found.timeline
        ]
    return shown


def _table(question: StatisticsQuery, found: Statistics) -> CachedResponse:
    names = [by for by in GroupBy if by in question.group_by] + ["numJobs", "nodeHours"]
    body = table.head(names) + table.lines(names, map(_group, found.groups))
    return CachedResponse.named(body, table.CONTENT_TYPE, {})


def _group(group: Group) -> dict[str, Any]:
    return {**group.key, "numJobs": group.num_jobs, "nodeHours": _hours(group.node_seconds)}


def _hours(seconds: float) -> float:
    return round(seconds / 3600, 3)
