"""Run the testbed of another checkout, with its own code, until standard input ends.

`python -P bench/beside.py HOME JOBS` with PYTHONPATH=CHECKOUT prints where its service is.
"""

import importlib
import json
import sys
from pathlib import Path

_SMALL_JOBS = 1_000


def main() -> None:
    """Print the large instance's socket and token, and the processes, as JSON."""
    home, jobs = Path(sys.argv[1]), int(sys.argv[2])
    try:
        testbed = importlib.import_module("bench.testbed")
    except ModuleNotFoundError:
        # Of the commits before the tree of today.
        site = importlib.import_module("bench.site")
        with site.running(home, small=_SMALL_JOBS, large=jobs) as running:
            large = running.large
            large.execute("ANALYZE")
            _serve(large.socket, large.admin, large.service.pid, running.postgres.pid)
        return
    with testbed.run_testbed(home, small_jobs=_SMALL_JOBS, large_jobs=jobs) as running:
        large = running.large
        large.execute("ANALYZE")
        _serve(large.socket, large.admin_token, large.server.pid, running.postgres.pid)


def _serve(socket: str, admin_token: str, gunicorn_pid: int, postgres_pid: int) -> None:
    side = {"socket": socket, "admin_token": admin_token}
    print(json.dumps({**side, "gunicorn_pid": gunicorn_pid, "postgres_pid": postgres_pid}))
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
