"""The operation that reports the hosts: what runs, what is idle, and which ones fail too often."""

from typing import Any

from flask import Response
from marshmallow import fields

from ccapi.api.fields import PlainNames, QueryRange, resolve_range
from ccapi.api.queries import FORMATS, JSON_OR_CSV
from ccapi.api.schemas import QUERY
from ccapi.api.serializers import now
from ccapi.context import Context
from ccapi.http import csv_format
from ccapi.http.blueprint import Blueprint
from ccapi.http.schema import (
    ContractSchema,
    QueryBoolean,
    QueryChoice,
    QuerySchema,
    describe,
    parameter,
)
from ccapi.model import rules
from ccapi.model.hosts import ClusterEnds, HostJobs
from ccapi.model.token import Role
from ccapi.service import hosts
from ccapi.service.hosts import HostReport

blueprint = Blueprint("hosts", __name__, url_prefix="/api")

_COLUMNS = (
    *("cluster", "host", "numRunning", "numJobs", "numEnded", "numFailures", "failureRate"),
    *("clusterFailureRate", "standsOut", "isIdle", "states", "lastJob"),
)


class HostsQuery(QuerySchema):
    """Which hosts to show, and from which time."""

    cluster = PlainNames(
        rules.CLUSTER, metadata=parameter("Only hosts of this cluster; may be repeated", "fritz")
    )
    host = PlainNames(
        rules.HOSTNAME, metadata=parameter("Only this host; may be repeated", "f0101")
    )
    range = QueryRange(
        "epoch seconds",
        metadata=parameter(
            f"The time range: FROM-TO, epoch seconds, at most {hosts.MAX_RANGE_DAYS} days, "
            "besides days that ccapi rollup has summed up; FROM- ends now. By default it is the "
            "last 24 hours",
            "1649723812-1649810212",
        ),
    )
    stands_out = QueryBoolean(
        data_key="stands-out",
        metadata=parameter("Only hosts that fail more often than chance explains", "true"),
    )
    idle = QueryBoolean(metadata=parameter("Only idle hosts, or only others", "true"))
    format = QueryChoice(
        FORMATS,
        metadata=parameter("json (default), or csv with a line of names", "csv", enum=[*FORMATS]),
    )


class LastJob(ContractSchema):
    """The job of a host that started last."""

    definition = "api.LastJob"
    id = fields.Integer(metadata=describe("Its database id"))
    job_id = fields.Integer(data_key="jobId", metadata=describe("Its number"))
    start_time = fields.Integer(data_key="startTime", metadata=describe("Epoch seconds"))


class Host(ContractSchema):
    """A host and its jobs."""

    definition = "api.Host"
    cluster = fields.String(metadata=describe("Its cluster"))
    host = fields.String(metadata=describe("Its name"))
    num_running = fields.Integer(data_key="numRunning", metadata=describe("Jobs that run now"))
    num_jobs = fields.Integer(
        data_key="numJobs", metadata=describe("Jobs that ran within the range")
    )
    num_ended = fields.Integer(
        data_key="numEnded", metadata=describe("Jobs that ended within the range")
    )
    num_failures = fields.Integer(
        data_key="numFailures", metadata=describe("Those of them that failed")
    )
    failure_rate = fields.Float(
        data_key="failureRate", metadata=describe("Their share, if any job ended")
    )
    cluster_failure_rate = fields.Float(
        data_key="clusterFailureRate",
        metadata=describe(
            "The same of all hosts of the cluster; a job counts for each of its hosts"
        ),
    )
    stands_out = fields.Boolean(
        data_key="standsOut",
        metadata=describe("Whether it fails more often than chance explains; see docs/design.rst"),
    )
    is_idle = fields.Boolean(
        data_key="isIdle",
        metadata=describe("Whether no job runs there, and its reported state, if any, has idle"),
    )
    states = fields.List(
        fields.String(), metadata=describe("Its state, as nodestate reported it last")
    )
    last_job = fields.Nested(
        LastJob(), data_key="lastJob", metadata=describe("The job that started last, if any ran")
    )


class HostsResponse(ContractSchema):
    """The hosts."""

    definition = "api.GetHostsApiResponse"
    begin = fields.Integer(data_key="from", metadata=describe("Start of the range, epoch seconds"))
    end = fields.Integer(data_key="to", metadata=describe("End of the range, epoch seconds"))
    hosts = fields.List(fields.Nested(Host()), metadata=describe("The hosts, by cluster and name"))


@blueprint.route("/hosts/", Role.READER, methods=["GET"], tags=QUERY, cached=True)
@blueprint.arguments(HostsQuery(), location="query")
@blueprint.response(200, HostsResponse(), description="The hosts", produces=JSON_OR_CSV)
def get_hosts(context: Context, query: dict[str, Any]) -> dict[str, Any] | Response:
    """Report the hosts: running jobs, ends within a range, idle ones, and those that stand out.

    The hosts are those of jobs, of the settings' node lists, and of nodestate. A job that ran on
    several hosts counts for each. Failures are failed, out_of_memory, node_fail and boot_fail. A
    token that is limited to some jobs sees only their hosts, and neither states nor idle hosts.
    """
    at = now()
    time = resolve_range(query.get("range"), at)
    reports = hosts.report(context, time, query.get("cluster"), at)
    rows = [
        _row(report, cluster.ends)
        for cluster in reports.values()
        for report in cluster.hosts
        if report.jobs.host in query.get("host", [report.jobs.host])
        and query.get("stands_out") in {None, report.stands_out}
        and query.get("idle") in {None, report.is_idle}
    ]
    if query.get("format") == "csv":
        body = csv_format.header(_COLUMNS) + csv_format.lines(_COLUMNS, rows)
        return Response(body, content_type=csv_format.CONTENT_TYPE)
    return {"from": time.lower, "to": time.upper, "hosts": rows}


def _row(report: HostReport, of_cluster: ClusterEnds) -> dict[str, Any]:
    host = report.jobs
    rates = {"failureRate": _rate(host), "clusterFailureRate": _rate(of_cluster)}
    last = host.last_job
    row = {
        "cluster": host.cluster,
        "host": host.host,
        "numRunning": host.num_running,
        "numJobs": host.num_jobs,
        "numEnded": host.num_ended,
        "numFailures": host.num_failures,
        **{name: rate for name, rate in rates.items() if rate is not None},
        "standsOut": report.stands_out,
        "isIdle": report.is_idle,
    }
    if report.states is not None:
        row["states"] = report.states
    if last is not None:
        row["lastJob"] = {"id": last.id, "jobId": last.job_id, "startTime": last.start_time}
    return row


def _rate(ends: HostJobs | ClusterEnds) -> float | None:
    return round(ends.num_failures / ends.num_ended, 4) if ends.num_ended else None
