"""Which hosts stand out: how soon a bad one does, and how often a good one does."""

from bisect import bisect
from fractions import Fraction
from itertools import accumulate
from math import comb
from random import Random

import pytest

from ccapi.model.hosts import (
    ClusterEnds,
    HostJobs,
    probability_of_failures,
    stands_out,
    sum_ends,
)

NODES, TRIALS = 1_000, 1_000
RATE, FACTOR, MAX_FAILURES = 0.05, 10, 10


def host(name: str, ended: int, failures: int, users: int = 2) -> HostJobs:
    return HostJobs(
        cluster="fritz",
        host=name,
        num_ended=ended,
        num_failures=failures,
        num_failing_users=min(users, failures),
    )


class GoodHosts:
    """Draws how many of a good host's jobs failed."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._tables: dict[int, list[float]] = {}

    def failures(self, ended: int) -> int:
        if ended not in self._tables:
            chances = (
                comb(ended, k) * RATE**k * (1 - RATE) ** (ended - k) for k in range(ended + 1)
            )
            self._tables[ended] = list(accumulate(chances))
        return min(bisect(self._tables[ended], self._rng.random()), ended)


def jobs_until_failures(rng: Random) -> list[int]:
    """Return after how many jobs the bad host has its first failure, its second and so on."""
    number = 0
    at: list[int] = []
    while len(at) < MAX_FAILURES:
        number += 1
        if rng.random() < RATE * FACTOR:
            at.append(number)
    return at


@pytest.mark.slow
def test_bad_host_is_found_within_10_failures() -> None:
    """Of 1,000 hosts, one fails ten times as often; each trial ends with its tenth failure."""
    rng = Random(7)
    good = GoodHosts(rng)
    detections, false_alarms = 0, 0
    for _ in range(TRIALS):
        at = jobs_until_failures(rng)
        ended = at[-1]
        others = [host(f"f{n}", ended, good.failures(ended)) for n in range(1, NODES)]
        bad = host("f0", ended, MAX_FAILURES)
        [ends] = sum_ends([bad, *others]).values()
        # Hosts with the same numbers are judged once.
        suspects = {(one.num_ended, one.num_failures): one for one in others}
        false_alarms += any(stands_out(one, ends) for one in suspects.values())
        detections += any(
            stands_out(host("f0", number, failures), ends) for failures, number in enumerate(at, 1)
        )
    assert detections >= 0.99 * TRIALS
    assert false_alarms < 0.01 * TRIALS


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [30, 200, 1_000])
def test_healthy_clusters_have_few_false_alarms(jobs: int) -> None:
    good = GoodHosts(Random(jobs))
    false_alarms = 0
    for _ in range(200):
        hosts = [host(f"f{n}", jobs, good.failures(jobs)) for n in range(NODES)]
        [ends] = sum_ends(hosts).values()
        suspects = {one.num_failures: one for one in hosts}
        false_alarms += any(stands_out(one, ends) for one in suspects.values())
    assert false_alarms <= 0.02 * 200


def test_failures_of_one_user_do_not_make_a_host_stand_out() -> None:
    ends = ClusterEnds(1_000, 100_000, 5_000)
    assert stands_out(host("f0", 20, 15), ends)
    assert not stands_out(host("f0", 20, 15, users=1), ends)


@pytest.mark.parametrize(
    ("ended", "failures", "ends"),
    [
        (0, 0, ClusterEnds(0, 0, 0)),
        (1, 1, ClusterEnds(1, 1, 1)),
        (40, 2, ClusterEnds(1_000, 50_000, 20)),
        (500, 25, ClusterEnds(1_000, 500_000, 25_000)),
        (50, 50, ClusterEnds(2, 100, 100)),
        (100, 0, ClusterEnds(1_000, 50_000, 5_000)),
    ],
    ids=["no jobs", "only job", "first failures", "as the others", "all fail", "none fails"],
)
def test_host_does_not_stand_out(ended: int, failures: int, ends: ClusterEnds) -> None:
    assert not stands_out(host("f0", ended, failures), ends)


@pytest.mark.parametrize(("failures", "ended"), [(1, 1), (2, 20), (10, 20), (30, 1_000)])
def test_probability_is_the_exact_sum(failures: int, ended: int) -> None:
    rate = Fraction(1, 20)
    terms = (
        comb(ended, number) * rate**number * (1 - rate) ** (ended - number)
        for number in range(failures, ended + 1)
    )
    expected = float(sum(terms))
    assert probability_of_failures(failures, ended, 0.05) == pytest.approx(expected, rel=1e-6)
