"""Run the tests that touch the database on given major versions of PostgreSQL."""

import os
import subprocess
import sys

from ccapi.embedded import find_installations


def main() -> int:
    """Run pytest once for each version of the command line; fail when one is missing."""
    installations = {
        installation.major: installation for installation in reversed(find_installations())
    }
    for major in map(int, sys.argv[1:]):
        if major not in installations:
            print(f"PostgreSQL {major} is not installed; there are {sorted(installations)}")
            return 1
        print(f"== PostgreSQL {major}: {installations[major].bin_dir}", flush=True)
        command = [sys.executable, "-m", "pytest", "--quiet", "--numprocesses=2"]
        folders = ["tests/api", "tests/repository", "tests/service", "tests/cli", "tests/hub"]
        environment = {**os.environ, "CCAPI_PG_BIN": str(installations[major].bin_dir)}
        if subprocess.run([*command, *folders], env=environment, check=False).returncode:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
