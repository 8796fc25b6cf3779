"""The jobs of each host, and which hosts fail more often than chance explains."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from math import exp, lgamma, log
from typing import NamedTuple

# How often any host of a healthy cluster may stand out by chance.
FALSE_ALARM_RATE = 0.01
# Failures of one user may come from the user's program.
MIN_FAILING_USERS = 2
# Further terms of the sum change nothing.
_PRECISION = 1e-9


class LastJob(NamedTuple):
    """The job of a host that started last."""

    start_time: int
    id: int
    job_id: int


@dataclass(slots=True, kw_only=True)
class HostJobs:
    """The visible jobs of a host that ran within a time range, and the ends of those within it."""

    cluster: str
    host: str
    num_running: int = 0
    num_jobs: int = 0
    num_ended: int = 0
    num_failures: int = 0
    num_failing_users: int = 0
    last_job: LastJob | None = None


class ClusterEnds(NamedTuple):
    """How many jobs ended on the hosts of a cluster, and how many of them failed.

    A job counts once for each of its hosts.
    """

    num_hosts: int
    num_ended: int
    num_failures: int


def sum_ends(hosts: Iterable[HostJobs]) -> dict[str, ClusterEnds]:
    """Return the sums of each cluster; only hosts on which a job ended count."""
    sums: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for host in hosts:
        ends = sums[host.cluster]
        ends[0] += host.num_ended > 0
        ends[1] += host.num_ended
        ends[2] += host.num_failures
    return {cluster: ClusterEnds(*ends) for cluster, ends in sums.items()}


def stands_out(host: HostJobs, of_cluster: ClusterEnds) -> bool:
    """Return whether a host fails more often than the others, and chance hardly explains it.

    docs/design.rst has the test.
    """
    if host.num_failing_users < MIN_FAILING_USERS:
        return False
    failures = of_cluster.num_failures - host.num_failures
    ended = of_cluster.num_ended - host.num_ended
    # One more failure than there was: a cluster without any must not make the first one an alarm.
    rate = (failures + 1) / (ended + 2)
    if host.num_failures <= rate * host.num_ended:
        return False
    chance = probability_of_failures(host.num_failures, host.num_ended, rate)
    return chance * of_cluster.num_hosts < FALSE_ALARM_RATE


def probability_of_failures(failures: int, ended: int, rate: float) -> float:
    """Return how probable so many failures or more are, if each job fails with a rate below 1."""
    log_number = lgamma(ended + 1) - lgamma(failures + 1) - lgamma(ended - failures + 1)
    term = exp(log_number + failures * log(rate) + (ended - failures) * log(1 - rate))
    total = term
    for number in range(failures, ended):
        term *= (ended - number) / (number + 1) * rate / (1 - rate)
        total += term
        if term < total * _PRECISION:
            break
    return total
