"""Every command that the README shows is run, and every answer compared."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccapi.embedded import PrivatePostgres
from tests.console import Step, assert_promised, outputs, script, split, steps
from tests.processes import clean_environment, free_port, wait_for

ROOT = Path(__file__).resolve().parent.parent


def sections() -> dict[str, str]:
    """Split the README at its headings."""
    text = (ROOT / "README.rst").read_text("utf-8")
    return split(text)


def run(commands: list[Step], directory: Path, environment: dict[str, str]) -> list[str]:
    """Run commands in one shell, as a reader pastes them, and return each one's output."""
    done = subprocess.run(
        ["bash", "-c", f"exec 2>&1\n{script(commands)}kill %1 2>/dev/null; wait"],
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


@pytest.fixture
def demo(tmp_path: Path, environment: dict[str, str]) -> Iterator[int]:
    """Run the demo as `make demo` does, on a free port."""
    port = free_port()
    process = subprocess.Popen(
        ["ccapi", "demo", "--bind", f"127.0.0.1:{port}"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    wait_for(f"http://127.0.0.1:{port}/api/openapi.json")
    yield port
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0


def test_the_life_of_a_job_is_as_shown(
    demo: int, tmp_path: Path, environment: dict[str, str]
) -> None:
    told = sections()
    commands = steps(told["The life of a job"] + told["When the batch system says otherwise"])
    commands = [Step(step.command.replace(":8080", f":{demo}"), step.output) for step in commands]
    assert_promised(commands, run(commands, tmp_path, environment))


def test_installation_settings_tokens_and_archive_are_as_shown(
    postgres: PrivatePostgres, tmp_path: Path, environment: dict[str, str]
) -> None:
    """`createdb` and the default URL lead to the tests' server by libpq's variables."""
    port = free_port()
    told = sections()
    text = "".join(
        told[name]
        for name in ("On a site's PostgreSQL", "Health", "The log", "Metrics", "Settings", "Tokens")
    )
    commands = [
        Step(step.command.replace(":8081", f":{port}"), step.output)
        for step in steps(text + told["The archive"] + told["Agreement with Slurm"])
        if not step.command.startswith("createdb")
    ]
    (tmp_path / "config.example.toml").write_bytes((ROOT / "config.example.toml").read_bytes())
    url = create_database(postgres)
    path = f"{idle_slurm(tmp_path / 'slurm')}{os.pathsep}{environment['PATH']}"
    settings = {"CCAPI_DATABASE_URL": url, "PATH": path}
    outputs = run(commands, tmp_path, {**environment, **settings})
    assert_promised(commands, outputs)


def idle_slurm(directory: Path) -> Path:
    """Stand in for Slurm's programs on a cluster that runs nothing any more."""
    directory.mkdir()
    end = "1034871|2026-01-21T06:52:19|2026-01-22T06:52:31|TIMEOUT"
    for name, answer in (("squeue", ""), ("scontrol", "ClusterName = fritz"), ("sacct", end)):
        (directory / name).write_text(f"#!/bin/sh\necho -n '{answer}'\n")
        (directory / name).chmod(0o755)
    return directory


def create_database(postgres: PrivatePostgres) -> str:
    """Do what the README's createdb does, on the tests' server."""
    name = f"site_{time.monotonic_ns()}"
    import psycopg  # noqa: PLC0415 - only here

    with psycopg.connect(postgres.url, autocommit=True) as conn:
        options = "ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0"
        conn.execute(f"CREATE DATABASE {name} {options}".encode())
    return postgres.database_url(name)


def test_every_guarantee_names_a_test_that_there_is() -> None:
    _, *promises = sections()["Guarantees"].split("\n- ")
    assert promises
    for promise in promises:
        named = re.findall(r"``(\S+)::(test_\w+)``", promise)
        assert named, promise
        for file, test in named:
            text = (ROOT / "tests" / file).read_text("utf-8")
            assert f"\ndef {test}(" in text, f"{file}::{test}"
