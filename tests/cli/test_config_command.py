import tomllib
from pathlib import Path

import pytest

from tests.cli.conftest import Command


@pytest.fixture
def file(environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A settings file, with nothing in the environment."""
    monkeypatch.delenv("CCAPI_DATABASE_URL")
    monkeypatch.delenv("CCAPI_ARCHIVE_ROOT")
    file = tmp_path / "site.toml"
    file.write_text('[database]\nurl = "postgresql://ccapi:hunter2@db/ccapi"\npool_size = 7\n')
    return file


def test_config_prints_the_settings_as_toml(ccapi: Command, file: Path) -> None:
    status, out, err = ccapi("--config", str(file), "config")
    assert (status, err) == (0, "")
    settings = tomllib.loads(out)
    assert settings["database"]["pool_size"] == 7
    assert settings["jobs"]["duplicate_window"] == 60


def test_config_prints_the_source_of_each_setting(
    ccapi: Command, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CCAPI_JOBS_DUPLICATE_WINDOW", "5")
    lines = ccapi("--config", str(file), "config").out.splitlines()
    assert "pool_size = 7  # file" in lines
    assert "duplicate_window = 5  # environment" in lines
    assert "connect_timeout = 3.0  # default" in lines


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("postgresql://ccapi:hunter2@db/ccapi", "postgresql://ccapi:********@db/ccapi"),
        ("postgresql://db/ccapi?user=x&password=hunter2", "?user=x&password=********"),
        ("host=db dbname=ccapi password=hunter2", "host=db dbname=ccapi password=********"),
        ("host=db password='hun ter2 hunter2' dbname=x", "password=******** dbname=x"),
    ],
    ids=["in the address", "parameter", "keyword", "quoted"],
)
def test_config_masks_the_password(
    ccapi: Command, monkeypatch: pytest.MonkeyPatch, url: str, masked: str
) -> None:
    monkeypatch.setenv("CCAPI_DATABASE_URL", url)
    status, out, err = ccapi("config")
    assert status == 0
    assert masked in out
    assert "hunter2" not in out + err


def test_config_masks_a_password_from_a_file(ccapi: Command, file: Path, tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql://ccapi:hunter2@db/ccapi\n")
    file.write_text('[database]\nurl_file = "url"\n')
    status, out, err = ccapi("--config", str(file), "config")
    assert status == 0
    assert "********" in out
    assert "hunter2" not in out + err


@pytest.mark.usefixtures("file")
def test_missing_settings_file_is_one_line(ccapi: Command, tmp_path: Path) -> None:
    status, out, err = ccapi("--config", str(tmp_path / "absent.toml"), "config")
    assert (status, out) == (2, "")
    assert err.startswith(
        f"ccapi: {tmp_path}/absent.toml: cannot be read: No such file or directory;"
    )


def test_each_invalid_setting_is_a_line(ccapi: Command, file: Path) -> None:
    file.write_text("[database]\npool_size = 0\nulr = 1\n")
    status, out, err = ccapi("--config", str(file), "config")
    assert (status, out) == (2, "")
    assert "database.pool_size: expected an integer from 1 to 10000, got 0" in err
    assert "database.ulr: unknown key; did you mean url?" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["token", "--help"]], ids=" ".join
)
def test_help_needs_no_settings(
    ccapi: Command, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("CCAPI_NONSENSE", "1")
    status, out, err = ccapi(*arguments)
    assert (status, err) == (0, "")
    assert "ccapi" in out


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["token", "nonsense"], ["--nonsense"]], ids=" ".join
)
def test_unknown_command_exits_with_2(ccapi: Command, arguments: list[str]) -> None:
    status, out, err = ccapi(*arguments)
    assert (status, out) == (2, "")
    assert "nonsense" in err
