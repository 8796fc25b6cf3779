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
    found = config.load(settings, environ)
    return list(file_modes.warnings(found.secret_files, archive))


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o602], ids=oct)
def test_settings_with_a_password_that_others_can_touch_are_warned_of(
    settings: Path, archive: Path, mode: int
) -> None:
    settings.chmod(mode)
    [warning] = warnings(settings, {}, archive)
    assert warning.endswith(f"run `chmod o=,g-w {settings}`")


@pytest.mark.parametrize("mode", [0o600, 0o640], ids=oct)
def test_settings_that_the_service_alone_reads_are_fine(
    settings: Path, archive: Path, mode: int
) -> None:
    settings.chmod(mode)
    assert warnings(settings, {}, archive) == []


def test_settings_without_a_password_may_be_read_by_all(settings: Path, archive: Path) -> None:
    settings.write_text('[database]\nurl = "postgresql:///ccapi"\n', "utf-8")
    settings.chmod(0o644)
    assert warnings(settings, {}, archive) == []


def test_an_open_url_file_is_warned_of(tmp_path: Path, archive: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text(WITH_PASSWORD, "utf-8")
    secret.chmod(0o644)
    [warning] = warnings(Path("/dev/null"), {"CCAPI_DATABASE_URL_FILE": str(secret)}, archive)
    assert str(secret) in warning


def test_an_archive_that_everybody_can_change_is_warned_of(settings: Path, archive: Path) -> None:
    settings.chmod(0o600)
    archive.chmod(0o777)
    assert warnings(settings, {}, archive) == [
        f"every user can change the archive: run `chmod o-w {archive}`"
    ]


def test_what_does_not_exist_is_not_warned_of(tmp_path: Path) -> None:
    assert list(file_modes.warnings([tmp_path / "none"], tmp_path / "neither")) == []


def test_a_socket_that_everybody_can_connect_to_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "ccapi.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o666)
        [warning] = file_modes.socket_warnings([str(path), ("127.0.0.1", 8081)])
        assert warning.endswith(f"run `chmod o= {path}`")
        path.chmod(0o660)
        assert list(file_modes.socket_warnings([str(path)])) == []
