import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccapi.embedded import PrivatePostgres, private_postgres
from tests.embedded.support import (
    MEMORY,
    ROOM_FOR_CLUSTERS,
)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory, in memory where possible, that only the tests' user can enter."""
    in_memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM_FOR_CLUSTERS
    path = Path(tempfile.mkdtemp(prefix="ccapi-", dir=MEMORY if in_memory else tmp_path))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that every user can enter."""
    path = Path(tempfile.mkdtemp(prefix="ccapi-", dir=MEMORY if MEMORY.is_dir() else None))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a cluster that was started once and stopped."""
    directory = tmp_path_factory.mktemp("cluster")
    with private_postgres(directory, durable=False):
        return directory


@pytest.fixture
def used(place: Path, made_once: Path) -> Path:
    """A directory with a cluster in it."""
    subprocess.run(["cp", "-a", made_once, place / "used"], check=True)
    return place / "used"


@pytest.fixture
def server(used: Path) -> Iterator[PrivatePostgres]:
    with private_postgres(used, durable=False) as server:
        yield server
