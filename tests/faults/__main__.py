"""`python -m tests.faults --faults N`: break things N times; status 1 when a row is bad."""

import argparse
import re
import signal
import sys
import time
from collections.abc import Iterator

from tests.faults import suite

_MIN_SECONDS = 390
_SECONDS_PER_FAULT = 3
# Starting services and clients, and the audit, beside the injections of a row.
_ROW_SECONDS = 5


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--faults", type=int, default=100, help="how many injections in all")
    parser.add_argument("--only", default="", help="only faults whose name matches this")
    return parser.parse_args()


def _outcomes(arguments: argparse.Namespace) -> Iterator[suite.Outcome]:
    """Run every fault; on a slow machine, fewer times than the command line says."""
    faults = [fault for fault in suite.ALL if re.search(arguments.only, fault.name)]
    rows = list(zip(faults, suite.shares(faults, arguments.faults), strict=True))
    end = time.monotonic() + max(_MIN_SECONDS, _SECONDS_PER_FAULT * arguments.faults)
    with suite.server() as (postgres, directory):
        for done, (fault, times) in enumerate(rows):
            injections_left = sum(count for _, count in rows[done:])
            left = end - time.monotonic() - _ROW_SECONDS * (len(rows) - done)
            seconds = _ROW_SECONDS + left * times / injections_left
            yield suite.run(postgres, directory, fault, times, seconds)


def main() -> int:
    """Run every fault and print the table."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    outcomes: list[suite.Outcome] = []
    began = time.monotonic()
    print(suite.header(), flush=True)
    for outcome in _outcomes(_arguments()):
        outcomes.append(outcome)
        print(outcome.line(), *suite.details(outcome), sep="\n", flush=True)
    bad = [outcome for outcome in outcomes if not outcome.is_good]
    times = sum(outcome.times for outcome in outcomes)
    seconds = time.monotonic() - began
    print(f"{times} faults in {seconds:.0f} s; bad rows: {len(bad)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
