"""Wheels to install, and a machine on which the operating guide was followed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccapi import __version__
from tests.console import Step, assert_promised, outputs, script, split, steps
from tests.deploy.machine import Machine, booted, missing

ROOT = Path(__file__).resolve().parent.parent.parent
NEXT_VERSION = "0.2.0"
_PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
_SITE = "/root/site"
_WHEELS = "/root/wheels"


def guide() -> dict[str, list[Step]]:
    """Read the commands of each section of the operating guide."""
    text = (ROOT / "docs" / "operating.rst").read_text("utf-8")
    return {title: steps(body) for title, body in split(text).items()}


def follow(machine: Machine, *sections: list[Step]) -> None:
    """Run sections of the guide in one shell, and compare what they print."""
    commands = [step for section in sections for step in section]
    _, said = machine.run(script(commands), seconds=600)
    assert_promised(commands, outputs(said))


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build this version, and one after it with a migration more; bring what they need."""
    if reason := missing():
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("wheels")
    _build(ROOT, directory)
    [wheel] = directory.iterdir()
    constraint = f"--constraint={ROOT / 'requirements.lock'}"
    _run(*_PIP, "wheel", constraint, f"--wheel-dir={directory}", str(wheel))
    source = tmp_path_factory.mktemp("next")
    _copy_source(source)
    init = source / "ccapi" / "__init__.py"
    init.write_text(init.read_text("utf-8").replace(__version__, NEXT_VERSION), "utf-8")
    migration = source / "sql" / "migrations" / "9999_next.sql"
    migration.write_text("ALTER TABLE jobs ADD COLUMN next integer NOT NULL DEFAULT 0;\n", "utf-8")
    _build(source, directory)
    return directory


def _copy_source(target: Path) -> None:
    for name in ("ccapi", "sql", "deploy"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, target / name, ignore=ignored)
    for name in ("setup.py", "setup.cfg", "README.rst"):
        shutil.copyfile(ROOT / name, target / name)


def _build(source: Path, directory: Path) -> None:
    _run(
        *_PIP, "wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={directory}", str(source)
    )


def _run(*command: str) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    subprocess.run(command, check=True, timeout=600, env=kept)


def new_machine(wheels: Path, machine: Machine) -> None:
    """Bring the wheels to a machine whose pip finds them there instead of at an index."""
    machine.tell(f"mkdir -p {_WHEELS} {_SITE}")
    for wheel in wheels.iterdir():
        machine.bring(wheel, f"{_WHEELS}/{wheel.name}")
    machine.bring(ROOT / "requirements.lock", f"{_SITE}/requirements.lock")
    machine.tell(f"cp {_WHEELS}/ccapi-*.whl {_SITE}/")
    machine.environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": _WHEELS}


@pytest.fixture(scope="session")
def machine(wheels: Path) -> Iterator[Machine]:
    """Run a machine on which the guide's "Install" was followed."""
    with booted() as running:
        new_machine(wheels, running)
        follow(running, guide()["Install"])
        yield running


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly that nothing was proven where no machine could be run."""
    if any(
        "tests/deploy/e2e_" in report.nodeid for report in terminalreporter.getreports("skipped")
    ):
        terminalreporter.section("DEPLOYMENT NOT TESTED", red=True, bold=True)
        terminalreporter.line(f"{missing()}.", red=True)
        terminalreporter.line(
            "`make test-deploy` needs root, namespaces, and Debian's systemd, nginx, iproute2 "
            "and PostgreSQL 15 with its cluster; without them the guide is not proven here."
        )
