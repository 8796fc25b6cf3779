"""`make bench`: measure everything, print a table, keep it as JSON."""

import argparse
import os
import platform
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench import cpu, lists, nginx, site, space, starts, table
from bench.site import Site
from bench.table import Row

_SMALL = 100_000
Benchmark = Callable[[Site], Iterator[Row]]


def main() -> None:
    """Do what the command line says."""
    options = _options()
    if options.compare:
        print(table.compared(*options.compare))
        return
    benchmarks = _benchmarks(options.steady)
    wanted = options.only or list(benchmarks)
    rows: list[Row] = []
    print(f"load of the machine before: {_load()}", flush=True)
    with site.running(options.home, small=_SMALL, large=options.jobs) as running:
        for name in wanted:
            for row in benchmarks[name](running):
                rows.append(row)
                print(table.lines(row), flush=True)
        table.save(options.output or options.home / "bench.json", _machine(running), rows)
        print(f"{_machine(running)}; load of the machine after: {_load()}")
    failed = sum(not row.holds for row in rows)
    print(f"{len(rows) - failed} of {len(rows)} rows hold")


def _benchmarks(steady_seconds: int) -> dict[str, Benchmark]:
    return {
        "cpu": cpu.rows,
        "throughput": starts.throughput,
        "steady": partial(starts.steady, seconds=steady_seconds),
        "burst": starts.burst,
        "nginx": nginx.rows,
        "first-pages": lists.first_pages,
        "deep-pages": lists.deep_pages,
        "statistics": lists.statistics,
        "views": lists.views,
        "running": lists.everything_running,
        "stops": starts.stops,
        "bytes": space.bytes_per_job,
        "pollers": space.pollers,
        "deletion": space.deletion,
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--home", type=Path, default=Path("var/bench"), help="on a real disk")
    parser.add_argument("--jobs", type=int, default=1_000_000, help="of the large database")
    parser.add_argument("--steady", type=int, default=180, help="seconds of 100 starts a second")
    parser.add_argument("--only", nargs="*", choices=list(_benchmarks(0)), help="some of them")
    parser.add_argument("--output", type=Path, help="the JSON, HOME/bench.json if not given")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("BEFORE", "AFTER"))
    options = parser.parse_args()
    options.home = options.home.absolute()
    return options


def _machine(running: Site) -> str:
    return (
        f"{os.cpu_count()} processors, {platform.machine()}, Python {platform.python_version()}, "
        f"PostgreSQL {running.postgres.installation.major}, {site.WORKERS} sync workers"
    )


def _load() -> str:
    return " ".join(f"{load:.1f}" for load in os.getloadavg())


if __name__ == "__main__":
    main()
