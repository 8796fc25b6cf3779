"""The documents are right: their commands are run, their answers compared, their paths exist."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from ccapi.embedded import PrivatePostgres
from tests import cc_backend
from tests.console import Block, assert_answers, outputs, script, split, steps
from tests.processes import clean_environment, free_port, wait_for

ROOT = Path(__file__).resolve().parent.parent
# Sections of the operating guide that need no systemd; tests/deploy/ runs the others.
SITE_SECTIONS = (
    "Without systemd",
    "Configure",
    "Tokens",
    "What is in it",
    "When the archive cannot be written",
    "Retire old jobs",
    "Health",
    "Metrics",
)
GUIDE = ("docs/operating.rst", "docs/archive.rst", "docs/monitoring.rst")
CC_BACKEND_SECTIONS = ("Move the archive", "Move the database", "Run both side by side")
SQL = "Query the database with SQL"
COMMAND_LINE = "Query jobs on the command line"
RECONCILE = "Lost events: ccapi reconcile"
_TREES = ("ccapi", "sql", "deploy", "docs", "bench", "tests", ".ci")


def sections(name: str) -> dict[str, str]:
    """Split a document at its headings."""
    return split((ROOT / name).read_text("utf-8"))


def run(blocks: list[Block], directory: Path, environment: dict[str, str]) -> list[str]:
    """Run blocks in one shell, as a reader pastes them, and return each one's output."""
    done = subprocess.run(
        ["bash", "-c", f"exec 2>&1\n{script(blocks)}kill %1 2>/dev/null; wait"],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return outputs(done.stdout)


@pytest.fixture
def environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**clean_environment(), "PATH": path}


@dataclass(frozen=True)
class Demo:
    """`make demo`, on a free port, and the directory that it was started in."""

    port: int
    directory: Path
    environment: dict[str, str]

    def follow(self, name: str) -> None:
        """Run all blocks of a document, and compare the answers."""
        text = (ROOT / name).read_text("utf-8").replace(":8080", f":{self.port}")
        blocks = steps(text)
        assert_answers(blocks, run(blocks, self.directory, self.environment))


@pytest.fixture
def demo(tmp_path: Path, environment: dict[str, str]) -> Iterator[Demo]:
    port = free_port()
    process = subprocess.Popen(
        ["ccapi", "demo", "--bind", f"127.0.0.1:{port}"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    wait_for(f"http://127.0.0.1:{port}/api/openapi.json")
    yield Demo(port, tmp_path, environment)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0


@dataclass(frozen=True)
class Site:
    """A directory to install ccapi in without systemd, and a database for it."""

    directory: Path
    environment: dict[str, str]

    def follow(self, *texts: str, replacements: Mapping[str, str] | None = None) -> None:
        """Run all blocks of some sections, and compare the answers.

        `replacements` are further addresses of the document, and what they are here.
        """
        text = re.sub(r"(?m)^    createdb .*\n", "", "".join(texts))
        for in_document, here in {**(replacements or {}), **self._replacements()}.items():
            text = text.replace(in_document, here)
        blocks = steps(text)
        assert_answers(blocks, run(blocks, self.directory, self.environment))

    def _replacements(self) -> dict[str, str]:
        """Return the addresses of the documents, and what they are here."""
        port, url = free_port(), self.environment["CCAPI_DATABASE_URL"]
        return {
            "http://127.0.0.1:8081": f"http://127.0.0.1:{port}",
            "--bind 127.0.0.1:8081": f"--bind 127.0.0.1:{port}",
            "https://ccapi.example.org": f"http://127.0.0.1:{port}",
            "runuser -u postgres -- psql --quiet --dbname=ccapi": f"psql --quiet '{url}'",
            "postgresql://grafana:change-me@127.0.0.1/ccapi": f"'{url}&options=-crole%3Dgrafana'",
        }


@pytest.fixture
def site(postgres: PrivatePostgres, tmp_path: Path, environment: dict[str, str]) -> Site:
    (tmp_path / "config.example.toml").write_bytes((ROOT / "config.example.toml").read_bytes())
    path = f"{idle_slurm(tmp_path / 'slurm')}{os.pathsep}{environment['PATH']}"
    url = create_database(postgres)
    return Site(tmp_path, {**environment, "CCAPI_DATABASE_URL": url, "PATH": path})


def idle_slurm(directory: Path) -> Path:
    """Stand in for Slurm's programs on a cluster that runs no job any more."""
    directory.mkdir()
    end = "1034871|2026-01-21T06:52:19|2026-01-22T06:52:31|TIMEOUT"
    for name, answer in (("squeue", ""), ("scontrol", "ClusterName = fritz"), ("sacct", end)):
        (directory / name).write_text(f"#!/bin/sh\necho -n '{answer}'\n")
        (directory / name).chmod(0o755)
    return directory


def create_database(postgres: PrivatePostgres) -> str:
    """Do what the guide's createdb does, on the tests' server."""
    name = f"site_{time.monotonic_ns()}"
    with psycopg.connect(postgres.url, autocommit=True) as conn:
        options = "ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0"
        conn.execute(f"CREATE DATABASE {name} {options}".encode())
    return postgres.database_url(name)


@pytest.mark.slow
def test_readme(demo: Demo) -> None:
    demo.follow("README.rst")


@pytest.mark.slow
def test_api_tour(demo: Demo) -> None:
    demo.follow("docs/api.rst")


@pytest.mark.slow
def test_operating_guide(site: Site) -> None:
    guide = {title: body for name in GUIDE for title, body in sections(name).items()}
    site.follow(*(guide[title] for title in SITE_SECTIONS))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed")
def test_sql_of_operating_guide(site: Site) -> None:
    guide = sections("docs/operating.rst")
    site.follow(guide["Without systemd"], guide[SQL], guide[COMMAND_LINE])


@pytest.mark.slow
def test_reconcile_of_slurm_guide(site: Site) -> None:
    site.follow(
        sections("docs/operating.rst")["Without systemd"], sections("docs/slurm.rst")[RECONCILE]
    )


@pytest.mark.slow
@pytest.mark.skipif(cc_backend.NGINX is None, reason="nginx is not installed")
def test_coming_from_cc_backend(site: Site) -> None:
    document = sections("docs/cc-backend.rst")
    cc_backend.write_archive(site.directory / "cc-backend" / "var" / "job-archive")
    (site.directory / "cc-backend.token").write_text("its-jwt")
    settings = site.directory / "nginx"
    with cc_backend.CCBackend().serve("its-jwt") as port, cc_backend.nginx(settings) as nginx:
        site.follow(
            sections("docs/operating.rst")["Without systemd"],
            *(document[title] for title in CC_BACKEND_SECTIONS),
            replacements={
                "http://127.0.0.1:8080": f"http://127.0.0.1:{port}",
                "127.0.0.1:8090": f"127.0.0.1:{free_port()}",
                "/opt/monitoring/cc-backend": str(site.directory / "cc-backend"),
                "/etc/nginx": str(settings),
                "nginx -t -q && systemctl reload nginx": (
                    f"{nginx} -t -q && {nginx} -s reload 2> /dev/null"
                ),
            },
        )


def test_readme_is_short() -> None:
    assert len((ROOT / "README.rst").read_text("utf-8").splitlines()) <= 250


def test_every_guarantee_has_its_test() -> None:
    _, *promises = sections("docs/design.rst")["Guarantees"].split("\n- ")
    assert promises
    for promise in promises:
        tests = re.findall(r"``(\S+)::(test_\w+)``", promise)
        assert tests, promise
        for file, test in tests:
            text = (ROOT / "tests" / file).read_text("utf-8")
            assert f"\ndef {test}(" in text, f"{file}::{test}"


@pytest.mark.parametrize("name", ["CONTRIBUTING.rst", "docs/design.rst"])
def test_paths_exist(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    paths = re.findall(rf"``((?:{'|'.join(map(re.escape, _TREES))})/[\w./-]*)``", text)
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(
    ("change", "max_files"), [("A filter of the list", 3), ("A final state", 4), ("A field", 6)]
)
def test_a_change_touches_few_files(change: str, max_files: int) -> None:
    text = sections("CONTRIBUTING.rst")["How to add things"].partition(f"\n{change}")[2]
    files = re.findall(r"^    \d+\. ``", text.partition("\n\n")[0], re.MULTILINE)
    assert 2 < len(files) <= max_files


def test_every_directory_is_on_the_map() -> None:
    text = sections("CONTRIBUTING.rst")["The map"]
    folders = [f"ccapi/{path.parent.name}/" for path in (ROOT / "ccapi").glob("*/__init__.py")]
    assert [folder for folder in folders if f"``{folder}``" not in text] == []
