"""What an administrator changed survives `ccapi deploy` and install.sh, and both say so."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Command, ccapi, environment

__all__ = ["ccapi", "environment"]

NGINX = "etc/nginx/conf.d/ccapi.conf"
MINE = "# mine\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    directory = tmp_path / "root"
    directory.mkdir()
    return directory


def deploy(ccapi: Command, directory: Path, *options: str) -> str:
    written = ccapi("deploy", str(directory), "--server-name", "ccapi.example.org", *options)
    assert written.status == 0, written.err
    return written.out


def install(files: Path, root: Path) -> list[str]:
    """Run install.sh for another root directory, and return its lines."""
    ended = subprocess.run(
        ["/bin/sh", str(files / "install.sh")],
        env={**os.environ, "DESTDIR": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stderr == ""
    return ended.stdout.splitlines()


def change(path: Path) -> None:
    path.write_text(f"{path.read_text()}{MINE}")


def test_unchanged_files_are_updated(ccapi: Command, tmp_path: Path, root: Path) -> None:
    deploy(ccapi, tmp_path / "one", "--https-port", "4430")
    deploy(ccapi, tmp_path / "two", "--https-port", "4431")
    for name in ("one", "one", "two"):
        assert install(tmp_path / name, root) == []
        assert (root / NGINX).read_text() == (tmp_path / name / "nginx.conf").read_text()
    assert list(root.rglob("*.new")) == []


def test_changed_file_stays_beside_the_new_version(
    ccapi: Command, tmp_path: Path, root: Path
) -> None:
    deploy(ccapi, tmp_path / "one", "--https-port", "4430")
    deploy(ccapi, tmp_path / "two", "--https-port", "4431")
    install(tmp_path / "one", root)
    change(root / NGINX)
    assert install(tmp_path / "one", root) == []
    [line] = install(tmp_path / "two", root)
    assert line.startswith(f"kept /{NGINX}, which was changed on this machine")
    assert (root / NGINX).read_text().endswith(MINE)
    assert (root / f"{NGINX}.new").read_text() == (tmp_path / "two" / "nginx.conf").read_text()
    assert install(tmp_path / "two", root) == []
    (root / f"{NGINX}.new").replace(root / NGINX)
    deploy(ccapi, tmp_path / "three", "--https-port", "4432")
    assert install(tmp_path / "three", root) == []
    assert (root / NGINX).read_text() == (tmp_path / "three" / "nginx.conf").read_text()


def test_file_changed_before_its_installation_stays(
    ccapi: Command, tmp_path: Path, root: Path
) -> None:
    deploy(ccapi, tmp_path / "one")
    change(tmp_path / "one" / "nginx.conf")
    assert install(tmp_path / "one", root) == []
    deploy(ccapi, tmp_path / "two", "--https-port", "4431")
    assert len(install(tmp_path / "two", root)) == 1
    assert (root / NGINX).read_text().endswith(MINE)


def test_file_changed_before_it_is_installed_again_is_installed(
    ccapi: Command, tmp_path: Path, root: Path
) -> None:
    deploy(ccapi, tmp_path / "one")
    for number in (1, 2):
        change(tmp_path / "one" / "nginx.conf")
        assert len(install(tmp_path / "one", root)) == number - 1
        assert (root / NGINX).read_text().count(MINE) == number
    assert (root / f"{NGINX}.old").read_text().count(MINE) == 1


def test_settings_are_never_replaced(ccapi: Command, tmp_path: Path, root: Path) -> None:
    deploy(ccapi, tmp_path / "one", "--database-host", "db.example.org")
    install(tmp_path / "one", root)
    for name in ("config.toml", "database-url"):
        (root / "etc/ccapi" / name).write_text(MINE)
    deploy(ccapi, tmp_path / "two", "--database-host", "db.example.org")
    install(tmp_path / "two", root)
    for name in ("config.toml", "database-url"):
        assert (root / "etc/ccapi" / name).read_text() == MINE


def test_force_keeps_a_copy_of_what_was_changed(ccapi: Command, tmp_path: Path) -> None:
    files = tmp_path / "one"
    deploy(ccapi, files)
    change(files / "nginx.conf")
    out = deploy(ccapi, files, "--force", "--workers", "7")
    assert "replaced nginx.conf, which had been changed: that version is nginx.conf.old\n" in out
    assert out.count("replaced") == 1
    assert (files / "nginx.conf.old").read_text().endswith(MINE)
    assert MINE not in (files / "nginx.conf").read_text()
    assert [path.name for path in files.glob("*.old")] == ["nginx.conf.old"]


def test_options_are_recorded(ccapi: Command, tmp_path: Path) -> None:
    deploy(ccapi, tmp_path, "--workers", "7", "--force", "--user", "registry")
    last = (tmp_path / "deploy.sh").read_text().splitlines()[-1]
    options = "--server-name ccapi.example.org --workers 7 --user registry"
    assert last == f'exec /opt/ccapi/bin/ccapi deploy {options} "$@"'
