"""The operations on clusters and nodes that the family's clients call."""

from collections.abc import Mapping
from typing import Any, ClassVar

from marshmallow import ValidationError, fields, post_load

from ccapi.api import fields as job_fields
from ccapi.api.schemas import CHANGE, QUERY
from ccapi.api.serializers import now
from ccapi.context import Context
from ccapi.http.blueprint import Blueprint
from ccapi.http.schema import (
    ContractSchema,
    Integer,
    Objects,
    QueryInteger,
    QuerySchema,
    Text,
    TextList,
    describe,
)
from ccapi.model import rules
from ccapi.model.token import Role
from ccapi.service import nodes

blueprint = Blueprint("nodes", __name__, url_prefix="/api")


class UsedNodesQuery(QuerySchema):
    """When, and on which cluster."""

    ts = QueryInteger(metadata=describe("Time, in epoch seconds; now by default"))
    cluster = Text(rules.CLUSTER, metadata=describe("Only hosts of this cluster"))


class UsedNodesResponse(ContractSchema):
    """The hosts in use, by cluster."""

    definition = "api.UsedNodesApiResponse"
    used_nodes = fields.Dict(
        keys=fields.String(),
        values=fields.List(fields.String()),
        data_key="usedNodes",
        metadata=describe("Sorted hosts, each once, by cluster"),
    )


class ClustersQuery(QuerySchema):
    """Which cluster."""

    cluster = Text(rules.CLUSTER, metadata=describe("Only this cluster"))


class SubCluster(ContractSchema):
    """A part of a cluster."""

    definition = "api.SubCluster"
    name = fields.String(metadata=describe("Name of the sub-cluster"))
    nodes = fields.List(fields.String(), metadata=describe("Its hosts"))


class Cluster(ContractSchema):
    """A cluster."""

    definition = "api.Cluster"
    name = fields.String(metadata=describe("Name of the cluster"))
    sub_clusters = fields.List(
        fields.Nested(SubCluster()),
        data_key="subClusters",
        metadata=describe("Its sub-clusters, as far as the settings describe them"),
    )


class ClustersResponse(ContractSchema):
    """The clusters."""

    definition = "api.GetClustersApiResponse"
    clusters = fields.List(fields.Nested(Cluster()), metadata=describe("The clusters"))


class NodeState(ContractSchema):
    """The state of a node."""

    definition = "api.NodeState"
    also_required = ("hostname",)
    hostname = Text(rules.HOSTNAME, metadata=describe("Name of the node"))
    states = TextList(rules.ACCELERATORS, metadata=describe("Such as allocated, idle or down"))
    cpus_allocated = Integer(
        rules.COUNT, data_key="cpusAllocated", metadata=describe("CPUs that jobs use")
    )
    memory_allocated = Integer(
        rules.COUNT, data_key="memoryAllocated", metadata=describe("Memory that jobs use, in MB")
    )
    gpus_allocated = Integer(
        rules.COUNT, data_key="gpusAllocated", metadata=describe("GPUs that jobs use")
    )
    jobs_running = Integer(
        rules.COUNT, data_key="jobsRunning", metadata=describe("Number of jobs on the node")
    )

    @post_load
    def _build(self, values: dict[str, Any], **_: Any) -> dict[str, Any]:
        numbers = ("cpus_allocated", "memory_allocated", "gpus_allocated", "jobs_running")
        return {"states": [], **dict.fromkeys(numbers, 0), **values}


class NodeStateRequest(ContractSchema):
    """The states of a cluster's nodes."""

    definition = "api.NodeStateApiRequest"
    example: ClassVar[Mapping[str, Any]] = {
        "cluster": "fritz",
        "nodes": [{"hostname": "f0101", "states": ["allocated"], "jobsRunning": 1}],
    }
    cluster = job_fields.cluster("Cluster of the nodes", required=True)
    nodes = Objects(
        NodeState(),
        required=True,
        metadata=describe("The nodes; those that are left out keep their last state"),
    )

    @post_load
    def _build(self, values: dict[str, Any], **_: Any) -> dict[str, Any]:
        hosts = [node["hostname"] for node in values["nodes"]]
        if len(set(hosts)) < len(hosts):
            raise ValidationError("must have each node once", "nodes")
        return values


class MessageResponse(ContractSchema):
    """A confirmation."""

    definition = "api.DefaultApiResponse"
    msg = fields.String(metadata=describe("What was done"))


@blueprint.route(
    "/jobs/used_nodes",
    Role.READER,
    methods=["GET"],
    tags=QUERY,
    open_to="USED_NODES_OPEN_TO",
)
@blueprint.arguments(UsedNodesQuery(), location="query")
@blueprint.response(200, UsedNodesResponse(), description="The hosts in use")
def get_used_nodes(context: Context, query: dict[str, Any]) -> dict[str, Any]:
    """List the hosts of the jobs that ran at a time.

    cc-metric-store asks this without a token: [server] used_nodes_open_to lists the addresses
    that may.
    """
    time = query.get("ts", now())
    return {"usedNodes": nodes.list_used_hosts(context, time, query.get("cluster"))}


@blueprint.route("/clusters/", Role.READER, methods=["GET"], tags=QUERY)
@blueprint.arguments(ClustersQuery(), location="query")
@blueprint.response(200, ClustersResponse(), description="The clusters")
def get_clusters(context: Context, query: dict[str, Any]) -> dict[str, Any]:
    """List the clusters and their sub-clusters.

    As the settings describe them; without settings, the clusters that jobs have.
    """
    name = query.get("cluster")
    return {
        "clusters": [
            {
                "name": cluster,
                "subClusters": [
                    {"name": sub_cluster, "nodes": hosts}
                    for sub_cluster, hosts in sub_clusters.items()
                ],
            }
            for cluster, sub_clusters in nodes.list_clusters(context).items()
            if name in {None, cluster}
        ]
    }


@blueprint.route("/nodestate/", Role.WRITER, methods=["POST"], tags=CHANGE)
@blueprint.arguments(NodeStateRequest(), description="The states of a cluster's nodes")
@blueprint.response(201, MessageResponse(), description="The states are stored")
def report_node_states(context: Context, report: dict[str, Any]) -> dict[str, Any]:
    """Report the states of nodes; the last state of each one is kept."""
    nodes.save_states(context, report["cluster"], report["nodes"])
    return {"msg": f"stored the states of {len(report['nodes'])} nodes"}
