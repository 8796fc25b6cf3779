from pathlib import Path

import pytest

from tests.config.support import (
    Settings,
)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def settings() -> Settings:
    """Write a settings file and return its path, relative to the working directory."""

    def write(text: str) -> Path:
        path = Path("settings/site.toml")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return write
