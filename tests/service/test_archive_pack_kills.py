"""A process that packs or unpacks may be killed at any moment."""

from dataclasses import replace
from pathlib import Path

import pytest

from ccapi.config import Config
from ccapi.context import Context
from tests.faults import pack_kills


@pytest.mark.slow
def test_killed_moves_lose_and_double_nothing(
    context: Context, config: Config, tmp_path: Path
) -> None:
    moving = replace(context, archive_root=tmp_path / "moving")
    documents = pack_kills.fill(moving, 150)
    faults = pack_kills.kill(moving, config.database.url, documents, kills=8)
    faults.pop("killed in the middle of a move", None)
    assert faults == {}
