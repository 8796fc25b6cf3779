"""Report the jobs of each host, idle hosts, and hosts that fail too often."""

from collections.abc import Sequence
from typing import NamedTuple

from ccapi.context import Context
from ccapi.errors import InvalidInput
from ccapi.model.hosts import ClusterEnds, HostJobs, stands_out, sum_ends
from ccapi.model.job import JobFilter, Range
from ccapi.model.rules import MAX_EPOCH_SECOND
from ccapi.model.statistics import DAY_SECONDS
from ccapi.repository import hosts, nodes, rollups
from ccapi.service.rollups import require_short

MAX_RANGE_DAYS = 31
_CHEAP_DAYS = 1
_IDLE = "idle"


class HostReport(NamedTuple):
    """A host and its jobs; `states` is None if no client has reported its state."""

    jobs: HostJobs
    stands_out: bool
    is_idle: bool
    states: list[str] | None


class ClusterReport(NamedTuple):
    """The hosts of a cluster, by name, and how many jobs ended on all of them."""

    ends: ClusterEnds
    hosts: list[HostReport]


def report(
    context: Context, time: Range, clusters: Sequence[str] | None, now: int
) -> dict[str, ClusterReport]:
    """Report the hosts of each cluster; raises InvalidInput for a range that is too long.

    A limited token sees its own jobs' hosts only: states would show those of other jobs.
    """
    if time.upper > MAX_EPOCH_SECOND:
        raise InvalidInput.of("range", f"must end at {MAX_EPOCH_SECOND} at the latest")
    scope, database = context.scope, context.database
    is_expensive = time.upper - time.lower > _CHEAP_DAYS * DAY_SECONDS
    jobs = JobFilter(cluster=clusters, scope=scope, now=now)
    states: dict[tuple[str, str], list[str]] = {}
    with database.slot(is_expensive=is_expensive), database.snapshot() as conn:
        days = rollups.find_days(conn, jobs, time, rollups.HOST_COLUMNS)
        require_short(time, days, MAX_RANGE_DAYS)
        jobs_of_hosts = hosts.list_hosts(conn, jobs, time, days)
        known = {(host.cluster, host.host): host for host in jobs_of_hosts}
        if not scope.is_limited:
            states = nodes.list_states(conn, clusters)
    ends = sum_ends(known.values())
    in_settings = {
        (cluster.name, host)
        for cluster in context.clusters.described
        if not scope.is_limited and (clusters is None or cluster.name in clusters)
        for host in cluster.sub_cluster_of
    }
    reports: dict[str, list[HostReport]] = {}
    for cluster, name in sorted({*known, *states, *in_settings}):
        host = known.get((cluster, name)) or HostJobs(cluster=cluster, host=name)
        of_cluster = ends.setdefault(cluster, ClusterEnds(0, 0, 0))
        reported = states.get((cluster, name))
        may_be_idle = not scope.is_limited and host.num_running == 0
        is_idle = may_be_idle and (reported is None or _IDLE in map(str.lower, reported))
        one = HostReport(host, stands_out(host, of_cluster), is_idle, reported)
        reports.setdefault(cluster, []).append(one)
    return {name: ClusterReport(ends[name], several) for name, several in reports.items()}
