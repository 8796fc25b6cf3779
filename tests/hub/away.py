"""`python -m tests.hub.away`: kill one of three sites under load, and compare the lists."""

import argparse
import itertools
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.client import job, stop
from tests.hub.federation import Federation, Host, federation
from tests.replica.pair import wait_until

_BATCH = 50
_MAX_SECONDS = 5


@dataclass
class Load:
    """Batches of starts and stops at one site, each repeated until it is answered."""

    site: Host
    number: int
    started: set[int] = field(default_factory=set)

    def run(self) -> None:
        """Start so many jobs; stop most of them, and tag some."""
        numbers = iter(range(1, self.number + 1))
        while batch := list(itertools.islice(numbers, _BATCH)):
            lines = []
            for number in batch:
                key = {"jobId": number, "cluster": f"cluster{self.site.number}"}
                tags = [{"type": "load", "name": str(number % 7)}] if number % 10 == 0 else []
                lines.append({"start": job(**key, tags=tags)})
                if number % 20:
                    lines.append({"stop": stop(**key)})
            body = b"\n".join(json.dumps(line).encode() for line in lines)
            while not self._send(body):
                time.sleep(0.1)

    def _send(self, body: bytes) -> bool:
        """Send a batch; return whether each of its lines was answered."""
        status, answer = self.site.send("/batch/", body)
        lines = [json.loads(line) for line in answer.splitlines()] if status == 200 else []
        self.started |= {line["body"]["id"] for line in lines if line["status"] == 201}
        return bool(lines) and all(line["status"] < 500 for line in lines)


def kill_a_site(made: Federation, jobs: int, seconds_away: float) -> tuple[float, float]:
    """Kill the last site in the middle of the load, and start it again.

    Returns after how many seconds the hub had what the sites had confirmed until the recovery,
    and after how many its list equalled the union when the load had ended.
    """
    loads = [Load(site, jobs // len(made.sites)) for site in made.sites]
    threads = [threading.Thread(target=load.run) for load in loads]
    for thread in threads:
        thread.start()
    lost, load = made.sites[-1], loads[-1]
    wait_until(lambda: len(load.started) > load.number // 3, "the load does not start", 300)
    lost.kill_server()
    time.sleep(seconds_away)
    lost.start_server()
    wait_until(lambda: lost.send("/")[0] == 200, "the site does not come back")
    confirmed = set().union(*(load.started for load in loads))
    caught_up = _seconds_until(lambda: confirmed <= made.hub.jobs().keys())
    for thread in threads:
        thread.join()
    union = made.union()
    equal = _seconds_until(lambda: made.hub.jobs() == union)
    assert len(union) == jobs // len(made.sites) * len(made.sites)
    # The answer to the batch that was killed was lost, so its starts are not known.
    assert set().union(*(load.started for load in loads)) <= union.keys()
    return caught_up, equal


def _seconds_until(condition: Callable[[], bool]) -> float:
    begin = time.monotonic()
    wait_until(condition, "the hub differs from the union of its sites", 120)
    return time.monotonic() - begin


def main() -> None:
    """Print how long the hub needed; fail beyond the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=30_000)
    parser.add_argument("--seconds", type=float, default=60, help="How long the site is away.")
    options = parser.parse_args()
    with federation(3) as made:
        caught_up, equal = kill_a_site(made, options.jobs, options.seconds)
    print(
        f"3 sites, {options.jobs:,} jobs, one site killed for {options.seconds:g} s: the hub had "
        f"all confirmed jobs {caught_up:.1f} s after the recovery, and equalled the union "
        f"{equal:.1f} s after the load (limit {_MAX_SECONDS})"
    )
    assert max(caught_up, equal) <= _MAX_SECONDS


if __name__ == "__main__":
    main()
