"""Distinct nodes, cores and GPUs equal a brute-force count, second by second."""

from collections import defaultdict
from random import Random
from typing import Any

import pytest

from ccapi.model.job import Range
from ccapi.model.statistics import Points
from ccapi.model.usage import NEVER, DistinctUsage, Run
from ccapi.repository import codec

JOBS = 100_000
SECONDS, NOW = 2_000, 1_900
TIME = Range(300, 1_800)
POINTS = Points(300, 7, 215)


def random_job(rng: Random) -> tuple[str, list[dict[str, Any]], Run]:
    """Make a job that shares its few nodes with many others; some run, some take no time."""
    begin = rng.randrange(SECONDS - 100)
    end = begin + rng.choice([0, 1, rng.randrange(20), rng.randrange(5)])
    if rng.random() < 0.001:
        end = NEVER
    threads = sorted(rng.sample(range(12), rng.randrange(6)))
    if rng.random() < 0.1:
        threads = rng.choice([list(range(12)), [5000, 5001, 5002], [10**15, 10**15 + 1]])
    node: dict[str, Any] = {"hwthreads": threads}
    if rng.random() < 0.5:
        node["accelerators"] = rng.sample(["0", "1", "GPU-a"], 2)
    hosts = rng.sample([f"f{number}" for number in range(400)], rng.choice([1, 1, 2, 4]))
    nodes = [{"hostname": host, **node} for host in hosts]
    return rng.choice(["alex", "fritz"]), nodes, Run(begin, end)


class Seconds:
    """Which units are in use in each second."""

    def __init__(self) -> None:
        self.in_use: defaultdict[Any, bytearray] = defaultdict(lambda: bytearray(SECONDS))

    def add(self, unit: Any, run: Run) -> None:
        seconds = self.in_use[unit]
        end = min(run.end, SECONDS)
        seconds[run.begin : end] = b"\1" * (end - run.begin)

    @property
    def timeline(self) -> list[int]:
        times = [POINTS.first + POINTS.step * number for number in range(POINTS.number)]
        return [sum(seconds[time] for seconds in self.in_use.values()) for time in times]

    @property
    def total(self) -> int:
        return sum(sum(seconds[TIME.lower : TIME.upper]) for seconds in self.in_use.values())


@pytest.mark.slow
def test_a_shared_node_counts_once_as_in_a_brute_force_count() -> None:
    rng = Random(4)
    jobs = sorted((random_job(rng) for _ in range(JOBS)), key=lambda job: job[2].begin)
    jobs = [job for job in jobs if job[2].begin <= TIME.upper and job[2].end >= TIME.lower]
    usage = DistinctUsage(TIME, POINTS, NOW)
    nodes, cores, gpus = Seconds(), Seconds(), Seconds()
    for cluster, resources, run in jobs:
        usage.add(cluster, codec.group_nodes(resources), run)
        for node in resources:
            host = cluster, node["hostname"]
            nodes.add(host, run)
            for thread in node["hwthreads"]:
                cores.add((host, thread), run)
            for name in node.get("accelerators", ()):
                gpus.add((host, name), run)
    for part, expected in ((usage.nodes, nodes), (usage.cores, cores), (usage.gpus, gpus)):
        assert part.timeline == expected.timeline
        assert part.num_units == len(expected.in_use)
        assert part.seconds == expected.total
    assert 0 < min(nodes.timeline) < max(nodes.timeline)


def test_two_jobs_on_one_node_are_one_node() -> None:
    usage = DistinctUsage(Range(0, 100), Points(0, 10, 11), 100)
    usage.add("fritz", [{"hostname": "f1", "hwthreads": "0-35"}], Run(0, 40))
    usage.add("fritz", [{"hostname": ["f1", "f2"], "hwthreads": "18-71"}], Run(20, 60))
    assert [point[:2] for point in usage.timeline] == [
        *2 * [(1, 36)], *2 * [(2, 72 + 54)], *2 * [(2, 108)], *5 * [(0, 0)],
    ]  # fmt: skip
    assert (usage.nodes.num_units, usage.cores.num_units) == (2, 72 + 54)
    assert (usage.nodes.seconds, usage.cores.seconds) == (
        100,
        36 * 40 + 18 * 20 + 36 * 40 + 54 * 40,
    )
