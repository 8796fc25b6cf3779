"""Building the sdist and the wheel."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
_BUILD_SDIST = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
_FILES = (
    "setup.cfg",
    "setup.py",
    "README.rst",
    "CHANGELOG.rst",
    "CONTRIBUTING.rst",
    "LICENSE",
    "config.example.toml",
    "requirements.lock",
)
_TREES = ("ccapi", "sql", "deploy", "docs")


def product_files() -> Iterator[str]:
    """Yield the paths of all files that a site may need."""
    yield from _FILES
    for tree in _TREES:
        for path in sorted((ROOT / tree).rglob("*")):
            name = path.relative_to(ROOT)
            is_hidden = "__pycache__" in name.parts or any(part[0] == "." for part in name.parts)
            if path.is_file() and not is_hidden:
                yield str(name)


def copy_product(target: Path) -> None:
    """Copy the product, so that nothing of a former build is in it."""
    for path in product_files():
        copy = target / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, copy)


def build_sdist(source: Path, directory: Path) -> Path:
    """Build the sdist of a source tree and return its path."""
    run(sys.executable, "-c", _BUILD_SDIST, directory, cwd=source)
    [sdist] = directory.glob("ccapi-*.tar.gz")
    return sdist


def build_wheel(source: Path, directory: Path) -> None:
    """Build the wheel of a source tree or an sdist."""
    run(*PIP, "wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={directory}", source)


def run(*command: object, cwd: Path | None = None) -> None:
    """Run a command that must succeed, without what leads back to the checkout."""
    words = [str(word) for word in command]
    subprocess.run(words, check=True, timeout=600, env=clean_environment(), cwd=cwd)


def clean_environment() -> dict[str, str]:
    """Return the environment without variables that point to the checkout."""
    left_out = ("CCAPI_", "PYTHON", "COV")
    return {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
