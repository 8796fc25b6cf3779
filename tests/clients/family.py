"""The Go program with the structs of the ClusterCockpit family."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent
# No toolchain and no other version of a module may be downloaded.
GO_ENVIRONMENT = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"}


def go(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the go command on the program's source."""
    return subprocess.run(
        ["go", *arguments],
        cwd=SOURCE,
        env=GO_ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the program, where Go and the library are to be had."""
    if shutil.which("go") is None:
        pytest.skip("Go is not installed: the family's structs are not tried")
    download = go("mod", "download")
    if download.returncode != 0:
        pytest.skip(f"Go cannot load the family's library: {download.stderr.strip()}")
    program = tmp_path_factory.mktemp("go") / "clients"
    build = go("build", "-o", str(program), ".")
    assert build.returncode == 0, build.stderr
    return program
