"""Run the tests that touch the database on given major versions of PostgreSQL."""

import os
import subprocess
import sys

from ccapi.embedded import find_installations


def main() -> int:
    """Run pytest once per version that the command line names; fail when one is missing."""
    found = {installation.major: installation for installation in reversed(find_installations())}
    for major in map(int, sys.argv[1:]):
        if major not in found:
            print(f"PostgreSQL {major} was not found; there are {sorted(found)}")
            return 1
        print(f"== PostgreSQL {major}: {found[major].bin_dir}", flush=True)
        command = [sys.executable, "-m", "pytest", "--quiet", "--numprocesses=2"]
        places = ["tests/api", "tests/repository", "tests/service", "tests/cli"]
        environment = {**os.environ, "CCAPI_PG_BIN": str(found[major].bin_dir)}
        if subprocess.run([*command, *places], env=environment, check=False).returncode:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
