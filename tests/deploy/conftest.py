"""Wheels to install, and a machine on which the operating guide was followed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ccapi import __version__
from tests.console import Block, assert_answers, outputs, script, split, steps
from tests.deploy.machine import Machine, booted, missing
from tests.distribution import PIP, ROOT, build_wheel, copy_product, run

NEXT_VERSION = "1.1.0"
# What the guide exports: curl trusts the certificate of the tests.
TRUSTED = {"CURL_CA_BUNDLE": "/etc/ccapi/tls/certificate.pem"}
# The operating guide.
GUIDE = ("operating", "archive", "monitoring")
_SITE = "/root/site"
_WHEELS = "/root/wheels"


def guide(*names: str) -> dict[str, list[Block]]:
    """Return the command blocks of each section of documents: by default, the operating guide."""
    texts = ((ROOT / "docs" / f"{name}.rst").read_text("utf-8") for name in names or GUIDE)
    return {title: steps(body) for text in texts for title, body in split(text).items()}


def follow(machine: Machine, *sections: list[Block]) -> None:
    """Run sections of the guide in one shell, and compare what they print."""
    blocks = [step for section in sections for step in section]
    _, output = machine.run(script(blocks), seconds=600)
    assert_answers(blocks, outputs(output))


def install(machine: Machine, wheels: Path) -> None:
    """Follow "Install" of the operating guide; later shells trust the certificate, too."""
    bring_wheels(machine, wheels)
    follow(machine, guide()["Install"])
    machine.environment |= TRUSTED


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build this version, and one after it with a migration more; bring what they need."""
    if reason := missing():
        pytest.skip(reason)
    source, directory = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheels")
    copy_product(source)
    build_wheel(source, directory)
    [wheel] = directory.iterdir()
    constraint = f"--constraint={ROOT / 'requirements.lock'}"
    run(*PIP, "wheel", constraint, f"--wheel-dir={directory}", wheel)
    next_source = tmp_path_factory.mktemp("next")
    copy_product(next_source)
    init = next_source / "ccapi" / "__init__.py"
    init.write_text(init.read_text("utf-8").replace(__version__, NEXT_VERSION), "utf-8")
    migration = next_source / "sql" / "migrations" / "9999_next.sql"
    migration.write_text("ALTER TABLE jobs ADD COLUMN next integer NOT NULL DEFAULT 0;\n", "utf-8")
    build_wheel(next_source, directory)
    return directory


def bring_wheels(machine: Machine, wheels: Path) -> None:
    """Bring the wheels to a machine whose pip finds them there instead of at an index."""
    machine.execute(f"mkdir -p {_WHEELS} {_SITE}")
    for wheel in wheels.iterdir():
        machine.bring(wheel, f"{_WHEELS}/{wheel.name}")
    machine.bring(ROOT / "requirements.lock", f"{_SITE}/requirements.lock")
    machine.execute(f"cp {_WHEELS}/ccapi-*.whl {_SITE}/")
    machine.environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": _WHEELS}


@pytest.fixture(scope="session")
def machine(wheels: Path) -> Iterator[Machine]:
    """Run a machine on which ccapi is installed as the guide says."""
    with booted() as running:
        install(running, wheels)
        yield running


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report that the guide is not tested where no machine can run."""
    if any(
        "tests/deploy/e2e_" in report.nodeid for report in terminalreporter.getreports("skipped")
    ):
        terminalreporter.section("DEPLOYMENT NOT TESTED", red=True, bold=True)
        terminalreporter.line(f"{missing()}.", red=True)
        terminalreporter.line(
            "`make test-deploy` needs root, namespaces, and Debian's systemd, nginx, iproute2 "
            "and PostgreSQL 15 with its cluster; without them the guide is not tested here."
        )
