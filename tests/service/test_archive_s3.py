"""The guide's copy of the archive in S3, with rclone and a small server for S3."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from bench import archive_check
from ccapi.context import Context
from ccapi.embedded import PrivatePostgres
from tests.processes import free_port, wait_for

GUIDE = Path(__file__).resolve().parent.parent.parent / "docs" / "archive.rst"
SECTION = GUIDE.read_text("utf-8").partition("A copy in S3\n")[2].partition("\n====")[0]
COMMANDS = [
    line.strip() for line in SECTION.splitlines() if line.startswith(("    rclone", "    ccapi"))
]
needs_s3 = pytest.mark.skipif(
    not (shutil.which("rclone") and shutil.which("gofakes3")),
    reason="needs rclone, and gofakes3: "
    "`go install github.com/johannesboyne/gofakes3/cmd/gofakes3@v1.2.0`",
)


@pytest.fixture
def store() -> Iterator[Mapping[str, str]]:
    """The environment in which rclone has the remote `store`."""
    address = f"127.0.0.1:{free_port()}"
    program = shutil.which("gofakes3") or ""
    with subprocess.Popen(
        [program, "-backend", "memory", "-host", address], stderr=subprocess.DEVNULL
    ) as server:
        wait_for(f"http://{address}/")
        settings = {
            "type": "s3", "provider": "Other", "endpoint": f"http://{address}",
            "access_key_id": "a", "secret_access_key": "b",
        }  # fmt: skip
        variables = {f"RCLONE_CONFIG_STORE_{key.upper()}": text for key, text in settings.items()}
        others = {name: text for name, text in os.environ.items() if not name.startswith("AWS_")}
        yield {**others, **variables, "RCLONE_CONFIG": "/dev/null"}
        server.terminate()


def run(command: str, archive: Path, environment: Mapping[str, str]) -> int:
    text = command.replace("/var/lib/ccapi/job-archive", str(archive))
    done = subprocess.run(["bash", "-c", text], env=environment, timeout=120, check=False)
    return done.returncode


@needs_s3
def test_archive_comes_back_from_s3(
    context: Context, postgres: PrivatePostgres, store: Mapping[str, str], tmp_path: Path
) -> None:
    copy, compare, fetch, check = COMMANDS
    assert check == "ccapi archive check"
    archive_check.build(context, 400)
    for command in (copy, compare, copy):
        assert run(command, context.archive_root, store) == 0
    assert run(fetch, tmp_path / "back", store) == 0
    assert archive_check.check(postgres.url, tmp_path / "back")[:2] == (0, [])
    next(context.archive_root.rglob("*.sqlite")).write_bytes(b"other")
    assert run(compare, context.archive_root, store) == 1
