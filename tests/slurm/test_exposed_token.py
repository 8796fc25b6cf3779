"""The sender warns of a token that others can read."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "deploy" / "slurm" / "ccapi-slurm"


def warnings(directory: Path, url: str, mode: int) -> list[str]:
    """Return what the sender says of its settings."""
    token = directory / "token"
    token.write_text("ccapi_x\n")
    token.chmod(mode)
    config = directory / "ccapi.conf"
    config.write_text(f"CCAPI_URL={url}\nCCAPI_CLUSTER=fritz\nCCAPI_SPOOL={directory}/spool\n")
    command = [sys.executable, str(PROGRAM), "--config", str(config), "--status"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return [line for line in ended.stderr.splitlines() if not line.endswith("is missing")]


@pytest.mark.parametrize(
    ("url", "mode"),
    [
        ("https://ccapi.example.org/api/jobs", 0o600),
        ("https://ccapi.example.org/api/jobs", 0o640),
        ("http://127.0.0.1:8080/api/jobs", 0o400),
        ("http://[::1]:8080/api/jobs", 0o400),
        ("http://localhost/api/jobs", 0o400),
    ],
)
def test_safe_token_needs_no_warning(tmp_path: Path, url: str, mode: int) -> None:
    assert warnings(tmp_path, url, mode) == []


@pytest.mark.parametrize("mode", [0o644, 0o666, 0o602])
def test_token_that_other_users_can_access_is_reported(tmp_path: Path, mode: int) -> None:
    [line] = warnings(tmp_path, "https://ccapi.example.org/api/jobs", mode)
    assert f"has mode {mode:o}; run chmod 600" in line


def test_token_that_the_network_can_read_is_reported(tmp_path: Path) -> None:
    [line] = warnings(tmp_path, "http://ccapi.example.org/api/jobs", 0o600)
    assert line.endswith("the network can read the token; use https://")
