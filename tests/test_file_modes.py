import socket
from pathlib import Path

import pytest

from ccapi import config, file_modes

WITH_PASSWORD = "postgresql://ccapi:secret@localhost/ccapi"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    root = tmp_path / "job-archive"
    root.mkdir(mode=0o750)
    return root


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(f'[database]\nurl = "{WITH_PASSWORD}"\n', "utf-8")
    return path


def warnings(settings: Path | None, environ: dict[str, str], archive: Path) -> list[str]:
    loaded = config.load(settings, environ)
    return list(file_modes.warnings(loaded.secret_files, archive))


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o602], ids=oct)
def test_warning_of_settings_with_a_password_and_a_wide_mode(
    settings: Path, archive: Path, mode: int
) -> None:
    settings.chmod(mode)
    [warning] = warnings(settings, {}, archive)
    assert warning.endswith(f"run `chmod o=,g-w {settings}`")


@pytest.mark.parametrize("mode", [0o600, 0o640], ids=oct)
def test_no_warning_of_settings_with_a_narrow_mode(
    settings: Path, archive: Path, mode: int
) -> None:
    settings.chmod(mode)
    assert warnings(settings, {}, archive) == []


def test_no_warning_of_settings_without_a_password(settings: Path, archive: Path) -> None:
    settings.write_text('[database]\nurl = "postgresql:///ccapi"\n', "utf-8")
    settings.chmod(0o644)
    assert warnings(settings, {}, archive) == []


def test_warning_of_a_readable_url_file(tmp_path: Path, archive: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text(WITH_PASSWORD, "utf-8")
    secret.chmod(0o644)
    [warning] = warnings(Path("/dev/null"), {"CCAPI_DATABASE_URL_FILE": str(secret)}, archive)
    assert str(secret) in warning


def test_warning_of_a_writable_archive(settings: Path, archive: Path) -> None:
    settings.chmod(0o600)
    archive.chmod(0o777)
    assert warnings(settings, {}, archive) == [
        f"every user can change the archive: run `chmod o-w {archive}`"
    ]


def test_no_warning_of_missing_files(tmp_path: Path) -> None:
    assert list(file_modes.warnings([tmp_path / "none"], tmp_path / "neither")) == []


def test_warning_of_an_open_socket(tmp_path: Path) -> None:
    path = tmp_path / "ccapi.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o666)
        [warning] = file_modes.socket_warnings([str(path), ("127.0.0.1", 8081)])
        assert warning.endswith(f"run `chmod o= {path}`")
        path.chmod(0o660)
        assert list(file_modes.socket_warnings([str(path)])) == []
