"""`python -m tests.faults --faults N`: break things N times; status 1 when that shows."""

import argparse
import re
import signal
import sys
import time

from tests.faults import suite


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--faults", type=int, default=100, help="how many injections in all")
    parser.add_argument("--only", default="", help="only faults whose name matches this")
    return parser.parse_args()


def main() -> int:
    """Run every fault, print the table."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    faults = [fault for fault in suite.ALL if re.search(arguments.only, fault.name)]
    outcomes: list[suite.Outcome] = []
    began = time.monotonic()
    print(suite.header(), flush=True)
    with suite.server() as (postgres, directory):
        for fault, times in zip(faults, suite.shares(faults, arguments.faults), strict=True):
            outcomes.append(suite.run(postgres, directory, fault, times))
            print(outcomes[-1].line(), *suite.details(outcomes[-1]), sep="\n", flush=True)
    bad = [outcome for outcome in outcomes if not outcome.is_good]
    times = sum(outcome.times for outcome in outcomes)
    seconds = time.monotonic() - began
    print(f"{times} faults in {seconds:.0f} s; rows that are not as they should be: {len(bad)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
