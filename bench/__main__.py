"""`make bench`: measure each figure, print it with its bar, and save all rows as JSON."""

import argparse
import os
import platform
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench import (
    cost,
    cpu,
    deletion,
    disk_space,
    greedy_readers,
    lists,
    nginx,
    open_pages,
    pages,
    report,
    starts,
    testbed,
)
from bench.report import Row
from bench.testbed import Testbed, run_testbed

_SMALL_JOBS = 100_000
Benchmark = Callable[[Testbed], Iterator[Row]]
_BENCHMARKS: dict[str, Benchmark] = {
    "cpu": cpu.compare_with_empty_route,
    "cost": cost.compare,
    "throughput": starts.throughput,
    "steady": starts.steady,
    "burst": starts.burst,
    "batches": starts.batches,
    "nginx": nginx.overhead,
    "first-pages": lists.first_pages,
    "limited-token": lists.limited_token,
    "deep-pages": lists.deep_pages,
    "statistics": lists.statistics,
    "views": lists.views,
    "running": lists.running_jobs,
    "stops": starts.stops,
    "rollup-triggers": starts.rollup_triggers,
    "bytes": disk_space.bytes_per_job,
    "pollers": lists.pollers,
    "pages": pages.pages,
    "open-pages": open_pages.open_pages,
    "deletion": deletion.starts_during_deletion,
    "greedy-readers": greedy_readers.starts_beside_readers,
}


def main() -> None:
    """Run the benchmarks that the command line selects, or compare two saved runs."""
    options = _parse_arguments()
    if options.compare:
        print(report.compare(*options.compare))
        return
    benchmarks: dict[str, Benchmark] = {
        **_BENCHMARKS,
        "steady": partial(starts.steady, seconds=options.steady),
        "cost": partial(cost.compare, checkout=options.beside),
    }
    rows: list[Row] = []
    print(f"load average before: {_load_average()}", flush=True)
    with run_testbed(options.home, small_jobs=_SMALL_JOBS, large_jobs=options.jobs) as running:
        for name in options.only or benchmarks:
            for row in benchmarks[name](running):
                rows.append(row)
                print(report.format_row(row), flush=True)
        machine = (
            f"{os.cpu_count()} processors, {platform.machine()}, "
            f"Python {platform.python_version()}, "
            f"PostgreSQL {running.postgres.installation.major}, {testbed.WORKERS} sync workers"
        )
        report.save(options.output or options.home / "bench.json", machine, rows)
        print(f"{machine}; load average after: {_load_average()}")
    print(f"{sum(row.meets_bar for row in rows)} of {len(rows)} rows meet their bars")


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--home", type=Path, default=Path("var/bench"), help="on a real disk")
    parser.add_argument("--jobs", type=int, default=1_000_000, help="in the large database")
    parser.add_argument("--steady", type=int, default=180, help="seconds of 100 starts per second")
    parser.add_argument("--beside", type=Path, help="checkout of another commit, for cost")
    parser.add_argument("--only", nargs="*", choices=list(_BENCHMARKS), help="run only these")
    parser.add_argument("--output", type=Path, help="JSON file (default: HOME/bench.json)")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("BEFORE", "AFTER"))
    options = parser.parse_args()
    options.home = options.home.absolute()
    return options


def _load_average() -> str:
    return " ".join(f"{load:.1f}" for load in os.getloadavg())


if __name__ == "__main__":
    main()
